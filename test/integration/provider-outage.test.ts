/** A provider that fails: whether it is the provider or us, which of them, and how, is told by a counter and by the log. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const NOBODY = 'http://127.0.0.1:1/v1'
const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] })

let provider: Provider
let sidecar: Sidecar
let begun: ReadonlyMap<string, number>
before(async () => {
  provider = await startProvider({})
  const config = makeConfig(`${provider.url}/v1`, [makeContract()], { ungoverned: 'Pass' })
  const [there] = config.upstreams
  assert.ok(there !== undefined)
  sidecar = await startSidecar({ ...config, upstreams: [there, { ...there, name: 'away', baseUrl: NOBODY }] })
})
after(async () => {
  await sidecar.close()
  await provider.close()
})
beforeEach(async () => {
  begun = await calls()
})

/** By upstream and outcome, of those that there were any of. */
async function calls(): Promise<ReadonlyMap<string, number>> {
  const series = /^farebox_provider_calls_total\{upstream="(.*)",outcome="(.*)"\} (\d+)$/gm
  return new Map(
    [...(await sidecar.metrics()).matchAll(series)].map(([, upstream, outcome, count]) => [`${upstream} ${outcome}`, Number(count)]),
  )
}

async function newCalls(): Promise<Readonly<Record<string, number>>> {
  await sidecar.idle()
  const more = [...(await calls())].map(([series, count]) => [series, count - (begun.get(series) ?? 0)] as const)
  return Object.fromEntries(more.filter(([, count]) => count > 0))
}

async function ask(upstream: string, headers: Readonly<Record<string, string>> = {}, path = 'chat/completions'): Promise<number> {
  const answer = await fetch(`${sidecar.url}/${upstream}/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer x', ...headers },
    body: BODY,
  })
  await answer.text().catch(() => '')
  return answer.status
}

/** Lines of this message that were written by now. */
function logged(message: string): readonly Record<string, unknown>[] {
  return sidecar
    .log()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ msg }) => msg === message)
}

const headsTimed = async (): Promise<number> =>
  Number(/^farebox_time_to_head_seconds_count\{.*\} (\d+)$/m.exec(await sidecar.metrics())?.[1] ?? 0)

test('each of its answers is counted by what it says; how long errors took is not the time of answers', async () => {
  const timed = await headsTimed()
  assert.equal(await ask('openai'), 200)
  for (const status of ['400', '401', '402', '403', '404', '429', '500', '529'])
    assert.equal(await ask('openai', { 'x-fake-status': status }), Number(status))
  assert.deepEqual(await newCalls(), {
    'openai 2xx': 1,
    'openai 4xx': 1,
    'openai 401': 1,
    'openai 402': 1,
    'openai 403': 1,
    'openai 404': 1,
    'openai 429': 1,
    'openai 5xx': 2,
  })
  assert.equal((await headsTimed()) - timed, 1)
})

test('one that cannot be reached, and one that breaks off, are counted, and both lines of the log name the upstream', async () => {
  const before = [logged('the provider call failed').length, logged('refused').length]
  assert.equal(await ask('away'), 502)
  assert.equal(await ask('openai', { 'x-fake-cut-after-tokens': 'headers' }), 502)
  assert.deepEqual(await newCalls(), { 'away connect': 1, 'openai cut': 1 })
  const failed = logged('the provider call failed').slice(before[0])
  assert.deepEqual(
    failed.map(({ upstream, kind }) => [upstream, kind]),
    [
      ['away', 'connect'],
      ['openai', 'cut'],
    ],
  )
  assert.deepEqual(
    logged('refused')
      .slice(before[1])
      .map(({ upstream, code }) => [upstream, code]),
    [
      ['away', 'upstream_unreachable'],
      ['openai', 'upstream_unreachable'],
    ],
  )
})

test('so are calls that are not metered, but for a 404, which is the matter of the client that asks for what is not there', async () => {
  const before = logged('the provider call failed').length
  assert.equal(await ask('openai', {}, 'assistants'), 404)
  assert.equal(await ask('away', {}, 'assistants'), 502)
  assert.deepEqual(await newCalls(), { 'openai 4xx': 1, 'away connect': 1 })
  assert.deepEqual(
    logged('the provider call failed')
      .slice(before)
      .map(({ upstream, kind }) => [upstream, kind]),
    [['away', 'connect']],
  )
})

test('a client that leaves before there is an answer is no failure of the provider', async () => {
  const leaving = AbortSignal.timeout(300)
  const headers = { 'content-type': 'application/json', authorization: 'Bearer x', 'x-fake-delay-ms': '5000' }
  await assert.rejects(fetch(`${sidecar.url}/openai/v1/chat/completions`, { method: 'POST', headers, body: BODY, signal: leaving }))
  assert.deepEqual(await newCalls(), { 'openai left': 1 })
})

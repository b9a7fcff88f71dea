/** Keys of providers and gateways that the sidecar holds: the app has none that is worth anything. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { createServer as createHttpServer } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { after, afterEach, before, describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { waitFor } from '../support/wait-for.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider, SeenRequest } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startOperator } from '../support/operator-delivery.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'

const WORTHLESS = WORTHLESS_KEY
const REAL = 'sk-real-0123456789'
const ROTATED = 'sk-next-9876543210'

let provider: Provider
let seen: SeenRequest[] = []
let folder: string
let sidecar: Sidecar | null = null
before(async () => {
  provider = await startProvider({ onRequest: (request) => seen.push(request), apiKeys: [REAL, ROTATED, 'the-apps-own'] })
  folder = mkdtempSync(join(tmpdir(), 'farebox-keys-'))
})
after(async () => {
  await provider.close()
  rmSync(folder, { recursive: true })
})
afterEach(async () => {
  await sidecar?.close()
  sidecar = null
  seen = []
})

function config(parts: Parameters<typeof makeConfig>[2] = {}): SidecarConfig {
  const usual = makeConfig(`${provider.url}/v1`, undefined, parts)
  return { ...usual, upstreams: usual.upstreams.map((upstream) => ({ ...upstream, credential: 'Held' as const })) }
}
function put(keys: string, key: string): void {
  mkdirSync(join(folder, keys), { recursive: true })
  writeFileSync(join(folder, `${keys}.new`), key)
  renameSync(join(folder, `${keys}.new`), join(folder, keys, 'openai'))
}
const started = async (keys: string | null, parts: Parameters<typeof makeConfig>[2] = {}): Promise<Sidecar> => {
  sidecar = await startSidecar(config(parts), {
    environment: { FAREBOX_LOG_LEVEL: 'debug', ...(keys === null ? {} : { FAREBOX_CREDENTIALS: join(folder, keys) }) },
  })
  return sidecar
}
const say = async (running: Sidecar, headers: Record<string, string>): Promise<{ readonly status: number; readonly code: string | null }> =>
  await startTalk(running, { 'x-farebox-conversation': 'keys', ...headers }).say('Hello.')

describe('a held key', () => {
  test("reaches the provider, the app's never does, and neither the log nor an answer tells it", async () => {
    put('plain', `${REAL}\n`)
    const running = await started('plain')
    assert.equal((await say(running, { authorization: `Bearer ${WORTHLESS}`, 'api-key': WORTHLESS })).status, 200)
    assert.equal(seen.length, 1)
    assert.deepEqual([seen[0]?.headers.authorization, seen[0]?.headers['api-key']], [`Bearer ${REAL}`, REAL])
    assert.ok(!JSON.stringify(seen[0]?.headers).includes(WORTHLESS))
    assert.ok(!running.log().includes(REAL) && !running.log().includes(WORTHLESS))
    assert.ok(!(await running.metrics()).includes(REAL))
  })

  test('goes with what is not metered as well', async () => {
    put('passed', REAL)
    const running = await started('passed', { ungoverned: 'Pass' })
    await fetch(`${running.url}/openai/v1/models`, { headers: { authorization: `Bearer ${WORTHLESS}` } })
    assert.equal(seen[0]?.headers.authorization, `Bearer ${REAL}`)
  })

  test('that is rotated is used within seconds', async () => {
    put('rotated', REAL)
    const running = await started('rotated')
    await say(running, {})
    put('rotated', ROTATED)
    const end = performance.now() + 10_000
    while (seen.at(-1)?.headers.authorization !== `Bearer ${ROTATED}`) {
      assert.ok(performance.now() < end)
      await sleep(200)
      assert.equal((await say(running, {})).status, 200)
    }
  })

  for (const [what, text] of [
    ['empty', ''],
    ['no key', 'two words\nand lines'],
  ] as const) {
    test(`whose file is ${what} is a 503, and nothing goes out; once it is good calls go on`, async () => {
      put(what, text)
      const running = await started(what)
      assert.deepEqual(await say(running, {}).then(({ status, code }) => [status, code]), [503, 'credential_unavailable'])
      assert.equal(seen.length, 0)
      put(what, REAL)
      await waitFor('a call to go on', async () => (await say(running, {})).status === 200)
      rmSync(join(folder, what), { recursive: true })
      await waitFor('a refusal', async () => (await say(running, {})).code === 'credential_unavailable')
      const worthless = seen.filter(({ headers }) => headers.authorization !== `Bearer ${REAL}`)
      assert.deepEqual(worthless, [], "the app's is worthless: it is not tried")
    })
  }

  for (const [what, keys] of [
    ['a folder', null],
    ['its file', 'other'],
  ] as const) {
    test(`of which there never was ${what}: the app of an older pod has the key, and it goes on`, async () => {
      mkdirSync(join(folder, 'other'), { recursive: true })
      const running = await started(keys)
      assert.equal((await say(running, { authorization: 'Bearer the-apps-own' })).status, 200)
      assert.equal(seen[0]?.headers.authorization, 'Bearer the-apps-own')
    })
  }
})

describe('an upstream that shows the key it got', () => {
  /** It tells it in a header and in an error, after so many bytes. */
  const echoing = async (context: TestContext, parts: Parameters<typeof makeConfig>[2] = {}): Promise<Sidecar> => {
    const upstream = createHttpServer((incoming, outgoing) => {
      incoming.resume()
      const { authorization = '' } = incoming.headers
      const status = incoming.url?.includes('fine') === true ? 200 : 401
      outgoing.writeHead(status, { 'x-seen': authorization, 'content-type': 'application/json' })
      outgoing.write(`{"error":{"message":"Incorrect key: ${authorization.slice(0, 12)}`)
      setTimeout(() => outgoing.end(`${authorization.slice(12)}"}}`), 20)
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    context.after(() => upstream.close())
    put('shown', REAL)
    const { port } = upstream.address() as AddressInfo
    const shown = config(parts)
    sidecar = await startSidecar(
      { ...shown, upstreams: shown.upstreams.map((each) => ({ ...each, baseUrl: `http://127.0.0.1:${port}/v1` })) },
      { environment: { FAREBOX_CREDENTIALS: join(folder, 'shown') } },
    )
    return sidecar
  }
  const chat = (running: Sidecar): Promise<Response> =>
    fetch(`${running.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-farebox-conversation': 'shown' },
      body: JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Hello.' }] }),
    })
  const replaced = { error: { message: `Incorrect key: Bearer ${WORTHLESS}` } }

  test('does not show it to the app, in headers and errors, metered or not', async (context) => {
    const running = await echoing(context, { ungoverned: 'Pass' })
    for (const answer of [await chat(running), await fetch(`${running.url}/openai/v1/models`)]) {
      assert.equal(answer.status, 401)
      assert.equal(answer.headers.get('x-seen'), `Bearer ${WORTHLESS}`)
      assert.deepEqual(await answer.json(), replaced)
    }
    const fine = await fetch(`${running.url}/openai/v1/fine`)
    assert.equal(fine.headers.get('x-seen'), `Bearer ${WORTHLESS}`, 'of an answer that is no error the headers')
  })

  test('is not asked to TRACE', async (context) => {
    const running = await echoing(context, { ungoverned: 'Pass' })
    const { port } = new URL(running.url)
    const socket = connect(Number(port), '127.0.0.1')
    socket.end('TRACE /openai/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    const answer = await text(socket)
    assert.match(answer, /^HTTP\/1\.1 403 /)
    assert.match(answer, /TRACE is refused here/)
    assert.ok(!answer.includes(REAL))
  })
})

describe("headers that an upstream's owner sets", () => {
  const GATEWAY = 'gateway-key-1234567890'
  const HEADERS = [{ name: 'x-portkey-api-key' }, { name: 'x-portkey-provider', value: '@openai-prod' }]
  const OF_GATEWAY = 'openai.x-portkey-api-key'
  const gatewayFolder = (keys: string, files: Readonly<Record<string, string>>): string => {
    const path = join(folder, keys)
    mkdirSync(path, { recursive: true })
    for (const [name, value] of Object.entries(files)) {
      writeFileSync(`${path}.new`, value)
      renameSync(`${path}.new`, join(path, name))
    }
    return path
  }
  const behindGateway = async (keys: string, parts: Parameters<typeof makeConfig>[2] = {}, headers = HEADERS): Promise<Sidecar> => {
    const usual = makeConfig(`${provider.url}/v1`, undefined, parts)
    const upstreams = usual.upstreams.map((upstream) => ({ ...upstream, headers }))
    sidecar = await startSidecar({ ...usual, upstreams }, { environment: { FAREBOX_CREDENTIALS: keys, FAREBOX_LOG_LEVEL: 'debug' } })
    return sidecar
  }
  const set = (index = -1): unknown => {
    const { headers } = seen.at(index) ?? assert.fail('nothing was sent')
    return [headers.authorization, headers['x-portkey-api-key'], headers['x-portkey-provider']]
  }

  test("reach it beside the app's own key, in place of what the app sends by their names; nothing tells the secret", async () => {
    const running = await behindGateway(gatewayFolder('gateway', { [OF_GATEWAY]: `${GATEWAY}\n` }), { ungoverned: 'Pass' })
    const headers = { authorization: 'Bearer the-apps-own', 'X-Portkey-Api-Key': 'app', 'X-Portkey-Provider': 'other' }
    assert.equal((await say(running, headers)).status, 200)
    assert.deepEqual(set(), ['Bearer the-apps-own', GATEWAY, '@openai-prod'])
    await fetch(`${running.url}/openai/v1/models`, { headers })
    assert.deepEqual(set(), ['Bearer the-apps-own', GATEWAY, '@openai-prod'], 'not metered')
    assert.ok(!running.log().includes(GATEWAY))
    assert.ok(!(await running.metrics()).includes(GATEWAY))
  })

  test('go with the held key; a value that is exchanged is sent within seconds, and one that cannot be used is a 503', async () => {
    const keys = gatewayFolder('both', { openai: REAL, [OF_GATEWAY]: `Bearer ${GATEWAY}` })
    const running = await behindGateway(keys)
    const app = { authorization: `Bearer ${WORTHLESS}` }
    assert.equal((await say(running, app)).status, 200)
    assert.deepEqual(set(), [`Bearer ${REAL}`, `Bearer ${GATEWAY}`, '@openai-prod'])
    gatewayFolder('both', { [OF_GATEWAY]: 'next' })
    await waitFor('the next', async () => (await say(running, app)).status === 200 && JSON.stringify(set()).includes('"next"'))
    gatewayFolder('both', { [OF_GATEWAY]: 'two\nlines' })
    await waitFor('a refusal', async () => (await say(running, app)).code === 'credential_unavailable')
    gatewayFolder('both', { [OF_GATEWAY]: GATEWAY })
    await waitFor('a call to go on', async () => (await say(running, app)).status === 200)
  })

  test('of which an older pod has no file are left to its app', async () => {
    const running = await behindGateway(gatewayFolder('older', {}))
    assert.equal((await say(running, { authorization: 'Bearer the-apps-own', 'x-portkey-api-key': 'app' })).status, 200)
    assert.deepEqual(set(), ['Bearer the-apps-own', 'app', '@openai-prod'])
  })

  test('with a held value no other header leads it to another host; what the owner sets the app cannot', async () => {
    const running = await behindGateway(gatewayFolder('led', { [OF_GATEWAY]: GATEWAY }))
    const led = await say(running, { authorization: 'Bearer the-apps-own', 'x-portkey-custom-host': 'https://elsewhere.example.com' })
    assert.deepEqual([led.status, led.code], [403, 'endpoint_not_governed'])
    assert.equal(seen.length, 0)
    assert.equal((await say(running, { authorization: 'Bearer the-apps-own', 'x-portkey-provider': 'other' })).status, 200)
  })

  test('are told to nobody by an upstream that shows them', async (context) => {
    const upstream = createHttpServer((incoming, outgoing) => {
      incoming.resume()
      const shown = String(incoming.headers['x-portkey-api-key'])
      outgoing.writeHead(401, { 'x-seen': shown, 'content-type': 'application/json' }).end(`{"error":{"message":"not ${shown}"}}`)
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    context.after(() => upstream.close())
    const { port } = upstream.address() as AddressInfo
    const usual = makeConfig(`http://127.0.0.1:${port}/v1`)
    sidecar = await startSidecar(
      { ...usual, upstreams: usual.upstreams.map((each) => ({ ...each, headers: HEADERS })) },
      { environment: { FAREBOX_CREDENTIALS: gatewayFolder('echo', { [OF_GATEWAY]: `Bearer ${GATEWAY}` }) } },
    )
    const answer = await fetch(`${sidecar.url}/openai/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-farebox-conversation': 'shown' },
      body: JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Hello.' }] }),
    })
    assert.equal(answer.headers.get('x-seen'), `Bearer ${WORTHLESS}`)
    assert.deepEqual(await answer.json(), { error: { message: `not Bearer ${WORTHLESS}` } })
  })

  test('two providers behind one gateway: each call has what its upstream sets, also where a downgrade moves it', async () => {
    const usual = makeConfig(`${provider.url}/v1`, [
      makeContract({
        models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini', upstream: 'second' }] },
        ladder: [{ atPercent: 0, rung: 'DowngradeModel' }],
      }),
    ])
    const [first = assert.fail()] = usual.upstreams
    const upstreams = [
      { ...first, headers: [{ name: 'x-key' }, { name: 'x-route', value: 'one' }, { name: 'x-first', value: 'alone' }] },
      { ...first, name: 'second', credential: 'Held' as const, headers: [{ name: 'x-key' }, { name: 'x-route', value: 'two' }] },
    ]
    const keys = gatewayFolder('two', { second: REAL, 'openai.x-key': GATEWAY, 'second.x-key': `${GATEWAY}-2` })
    sidecar = await startSidecar({ ...usual, upstreams }, { environment: { FAREBOX_CREDENTIALS: keys } })
    const ask = async (path: string, model: string): Promise<unknown> => {
      const answer = await fetch(`${sidecar?.url}/${path}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: 'Bearer the-apps-own', 'x-farebox-conversation': `${path} ${model}` },
        body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello.' }] }),
      })
      assert.equal(answer.status, 200, await answer.text())
      const { authorization, 'x-key': key, 'x-route': route, 'x-first': alone } = seen.at(-1)?.headers ?? {}
      return [authorization, key, route, alone]
    }
    assert.deepEqual(await ask('openai', 'gpt-4o-mini'), ['Bearer the-apps-own', GATEWAY, 'one', 'alone'])
    assert.deepEqual(await ask('second', 'gpt-4o-mini'), [`Bearer ${REAL}`, `${GATEWAY}-2`, 'two', undefined])
    assert.deepEqual(await ask('openai', 'gpt-4o'), [`Bearer ${REAL}`, `${GATEWAY}-2`, 'two', undefined], 'moved')
  })
})

test('summaries go out with the held key as well', async () => {
  put('summaries', REAL)
  const context = { windowTokens: 100_000, overflow: 'Summarize', summarizeAfterPercent: 1, keepRecentTurns: 1 } as const
  const usual = makeConfig(`${provider.url}/v1`, [
    makeContract({ context, models: { allow: [], downgrades: [], summarizer: 'gpt-4o-mini' } }),
  ])
  const held = { ...usual, upstreams: usual.upstreams.map((upstream) => ({ ...upstream, credential: 'Held' as const })) }
  sidecar = await startSidecar(held, { environment: { FAREBOX_CREDENTIALS: join(folder, 'summaries') } })
  const talk = startTalk(sidecar, { 'x-farebox-conversation': 'long', authorization: `Bearer ${WORTHLESS}`, 'x-fake-output-tokens': '300' })
  const isSummary = ({ body }: SeenRequest): boolean => body.toString().includes('"gpt-4o-mini"')
  for (let turn = 0; turn < 12 && !seen.some(isSummary); turn++) {
    assert.equal((await talk.say(`Tell me more of it. ${'The river is long and wide. '.repeat(200)}`)).status, 200)
    await sidecar.idle()
  }
  assert.ok(seen.some(isSummary))
  assert.deepEqual([...new Set(seen.map(({ headers }) => headers.authorization))], [`Bearer ${REAL}`])
})

test('a pod whose app was given the worthless key goes on with the real one when the budget lets keys pass', async () => {
  put('former', REAL)
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`), { environment: { FAREBOX_CREDENTIALS: join(folder, 'former') } })
  assert.equal((await say(sidecar, { authorization: `Bearer ${WORTHLESS}` })).status, 200)
  assert.equal((await say(sidecar, { authorization: 'Bearer the-apps-own' })).status, 200)
  assert.deepEqual(
    seen.map(({ headers }) => headers.authorization),
    [`Bearer ${REAL}`, 'Bearer the-apps-own'],
  )
  // Azure's SDK, and Anthropic's.
  for (const header of ['api-key', 'x-api-key']) {
    seen = []
    assert.equal((await say(sidecar, { [header]: WORTHLESS })).status, 200, header)
    assert.equal(seen[0]?.headers[header], REAL)
  }
})

test('a report names the upstreams whose key is held', async () => {
  put('told', REAL)
  const operator = await startOperator()
  try {
    const pod = operator.addPod('app-1')
    sidecar = await startSidecar(config(), { environment: { ...operator.environment(pod), FAREBOX_CREDENTIALS: join(folder, 'told') } })
    const report = await operator.untilReport(pod, ({ status }) => status !== null)
    assert.deepEqual(report.heldKeys, ['openai'])
    assert.ok(!JSON.stringify(report).includes(REAL))
  } finally {
    await operator.close()
  }
})

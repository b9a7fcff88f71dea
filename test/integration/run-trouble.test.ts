/** `farebox run` where its disk takes no more, its sidecar falls, or it is stopped before it is up. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { childrenOf, clientOf, COMMAND_WAIT_MS, freeListen, getJson, stageFarebox } from '../support/farebox-command.ts'
import type { Farebox } from '../support/farebox-command.ts'
import { waitFor } from '../support/wait-for.ts'

/** Takes nothing, as a full disk. */
const FULL = '/dev/full'
const SOON = { withinMs: COMMAND_WAIT_MS, everyMs: 20 }
const ASK = { model: 'gpt-4o', messages: [{ role: 'user' as const, content: 'Where is my parcel?' }] }
const NAMED = { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me' } }

const { fareboxWith, providerUrl, startRun, copyOfExample } = stageFarebox()

interface Run {
  readonly farebox: Farebox
  readonly url: string
  readonly adminUrl: string
  readonly data: string
}

async function start(environment: Readonly<Record<string, string>> = {}, prepare = (_data: string): void => undefined): Promise<Run> {
  const { folder } = copyOfExample()
  const data = join(folder, 'data')
  mkdirSync(data)
  prepare(data)
  const listen = await freeListen()
  const upstream = ['--upstream', `openai=${providerUrl()}/v1`]
  const farebox = fareboxWith(environment, ['run', '-f', folder, '--data', data, ...upstream, ...listen])
  await farebox.says(/ready: /)
  return { farebox, url: `http://${listen[1]}`, adminUrl: `http://${listen[3]}`, data }
}

const sidecarOf = ({ farebox }: Run): number => {
  const [child] = childrenOf(farebox.pid)
  assert.ok(child !== undefined)
  return child
}

test(
  'a log that takes no more costs lines, not calls: it is told, and the run ends when it is told to',
  { skip: !existsSync(FULL) },
  async () => {
    const { farebox, url } = await start({}, (data) => symlinkSync(FULL, join(data, 'sidecar.log')))
    for (let turn = 0; turn < 3; turn += 1) await clientOf(url).chat.completions.create(ASK, NAMED)
    assert.equal((await getJson(`${url}/farebox/v1/conversations/mine`))['turns'], 3)
    const { code, output } = await farebox.stop()
    assert.equal(code, 0)
    assert.equal(output.match(/^the log \S+sidecar\.log takes no more lines: ENOSPC/gm)?.length, 1, output)
  },
)

test('books that take no steps refuse calls, and are told as such everywhere, until they take them again', async () => {
  const { farebox, url, adminUrl, data } = await start()
  const blocked = join(data, 'books.sqlite.commits-0000000000000001')
  mkdirSync(blocked) // stands for a full disk
  await assert.rejects(clientOf(url).chat.completions.create(ASK, NAMED), /budget_store_unavailable|503/)
  await farebox.says(/the books cannot be written, and calls are refused: \S+books\.sqlite cannot be used: EISDIR/)
  const ready = await fetch(`${adminUrl}/readyz`)
  assert.equal(ready.status, 503)
  assert.match(await ready.text(), /^the budget store is away: \S+books\.sqlite cannot be used/)
  const metrics = async (): Promise<string> => (await fetch(`${adminUrl}/metrics`)).text()
  assert.match(await metrics(), /^farebox_store_ready 0$/m)
  assert.equal(((await getJson(`${url}/farebox/v1/status`))['store'] as { readonly state: string }).state, 'Away')
  assert.equal((await fetch(`${url}/farebox/v1/conversations/unknown`)).status, 404, 'nobody else has books: there is none')
  farebox.signal('SIGUSR2')
  await farebox.says(/ConversationBudget\/support\/desk +False +StoreAway/)

  rmdirSync(blocked)
  await farebox.says(/the books can be written again/)
  assert.match(await metrics(), /^farebox_store_ready 1$/m)
  assert.match(await metrics(), /^farebox_store_outages_total 1$/m)
  assert.equal((await fetch(`${adminUrl}/readyz`)).status, 200)
  await clientOf(url).chat.completions.create(ASK, NAMED)
})

test('a sidecar that falls by a fault of its own says which, in its log as well', async () => {
  const fault = 'process.once("SIGUSR2",()=>{throw(new(RangeError)("a-fault"))})'
  const run = await start({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(fault)}` })
  process.kill(sidecarOf(run), 'SIGUSR2')
  await run.farebox.says(/sidecar ended \(exit code \d+\): RangeError: a-fault; starts again in 0\.25 s/)
  await run.farebox.says(/sidecar is ready again/)
  assert.match(
    readFileSync(join(run.data, 'sidecar.log'), 'utf8'),
    /"err":"RangeError: a-fault\\n.*"the sidecar ends by a fault of its own"/,
  )
})

test('is not ready while it lets a call under way end', async () => {
  const run = await start()
  const call = clientOf(run.url).chat.completions.create(ASK, { headers: { ...NAMED.headers, 'x-fake-delay-ms': '2500' } })
  const isUnderWay = async (): Promise<boolean> => (await getJson(`${run.url}/farebox/v1/status`))['callsInFlight'] === 1
  await waitFor('the call is under way', isUnderWay, SOON)
  process.kill(sidecarOf(run), 'SIGTERM')
  const isStopping = async (): Promise<boolean> => (await (await fetch(`${run.adminUrl}/readyz`)).text()) === 'it is stopping\n'
  await waitFor('readiness to say so', isStopping, SOON)
  assert.equal((await call).choices.length, 1)
})

test('a path that begins with no upstream is told and logged by its beginning', async () => {
  const { farebox, url } = await startRun()
  const answer = await fetch(`${url}/${'a'.repeat(10_000)}/v1/chat/completions`, { method: 'POST', body: '{}' })
  const text = await answer.text()
  assert.equal(answer.status, 403)
  assert.match(text, new RegExp(`has no upstream \\\\"a{64}\\.\\.\\.\\\\"`))
  assert.ok(text.length < 1_000, text)
  await farebox.stop()
})

test('Ctrl+C ends it while it starts', async (t) => {
  const { folder } = copyOfExample()
  // It takes calls and answers none.
  const store = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1')
  t.after(() => store.close())
  await once(store, 'listening')
  const url = `redis://127.0.0.1:${(store.address() as AddressInfo).port}`
  const farebox = fareboxWith({}, ['run', '-f', folder, '--data', join(folder, 'data'), '--store', url, ...(await freeListen())])
  await once(store, 'connection')
  farebox.signal('SIGINT')
  const beganAt = performance.now()
  assert.deepEqual(await farebox.ended(), { code: 0, output: 'stopped\n' })
  assert.ok(performance.now() - beganAt < 7_000, 'it does not wait for the store first')
})

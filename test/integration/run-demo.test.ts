/** The `farebox` command as people start it: `demo`, `replay`, `ledger export`, `lint`, and what they say when they cannot. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { childrenOf, clientOf, COMMAND_WAIT_MS, edit, EXAMPLE, stageFarebox } from '../support/farebox-command.ts'
import type { Ended } from '../support/farebox-command.ts'
import { freePorts } from '../support/free-ports.ts'
import { EXAMPLE_CONVERSATIONS } from '../support/recorded-data.ts'
import { redisProgram } from '../support/redis.ts'
import { waitFor } from '../support/wait-for.ts'

/** Only where nobody may install it; in CI `redisProgram` makes that an error. */
const noRedis = redisProgram() === null ? 'there is no redis-server' : false

const { providerUrl, farebox, fareboxWith, startRun, copyOfExample } = stageFarebox()

test('farebox replay plays the recorded calls through any endpoint, and explain conversation tells what came of it', async () => {
  const { url } = await startRun()
  const args = [EXAMPLE_CONVERSATIONS, '--base-url', `${url}/openai/v1`, '--limit', '3', '--tier', 'support-seat']
  const { code, output } = await farebox('replay', ...args).ended()
  assert.equal(code, 0, output)
  assert.match(output, /support-late-parcel +finished +7 of 7 +None +\d+/)
  const [, suffix = assert.fail(output)] = /^the ids of this replay end in (-\w+)/m.exec(output) ?? []
  assert.match(output, /\n3 finished\n/)
  const explained = await farebox('explain', 'conversation', `support-late-parcel${suffix}`, '--url', url).ended()
  assert.equal(explained.code, 0, explained.output)
  assert.match(explained.output, /, 7 turns, .*\ntier support-seat, .*\n\n +0\.10 +budget/)
  assert.match(explained.output, /history \(\d+ %\)/)
})

test('farebox ledger export says in one line why a file cannot be written, and keeps an earlier one until the new one is whole', async () => {
  const { url, folder } = await startRun()
  const exported = (path: string, from: string): Promise<Ended> => farebox('ledger', 'export', '--url', from, '--output', path).ended()
  const nowhere = await exported('/no/such/folder/ledger.ndjson', url)
  assert.equal(nowhere.code, 1)
  assert.match(nowhere.output, /^farebox: --output \/no\/such\/folder\/ledger\.ndjson: cannot be written: ENOENT[^\n]*\n$/)
  const path = join(folder, 'ledger.ndjson')
  writeFileSync(path, 'of last month\n')
  const unanswered = await exported(path, 'http://127.0.0.1:1')
  assert.deepEqual(unanswered, { code: 1, output: 'farebox: no sidecar answers at http://127.0.0.1:1\n' })
  assert.equal(readFileSync(path, 'utf8'), 'of last month\n')
  assert.deepEqual(await exported(path, url), { code: 0, output: `0 entries, 0.00 USD in all, in ${path}\n` })
  assert.equal(readFileSync(path, 'utf8'), '')
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('ledger')),
    ['ledger.ndjson'],
  )
})

test('farebox replay ends with 1 when calls fail', async () => {
  const [port] = await freePorts(1)
  const { code, output } = await farebox('replay', EXAMPLE_CONVERSATIONS, '--base-url', `${providerUrl()}/nothing`, '--limit', '1').ended()
  assert.equal(code, 1)
  assert.match(output, /1 failed/)
  const bad = await farebox('replay', EXAMPLE_CONVERSATIONS, '--base-url', `127.0.0.1:${port}`).ended()
  assert.equal(bad.code, 1)
  assert.match(bad.output, /--base-url.*It must be an http or https URL/)
})

test("farebox demo ends by itself with 0 on the examples' own conversations, where some climb the ladder and no bill is above its budget", async () => {
  const { code, output } = await farebox('demo', '--conversations', EXAMPLE_CONVERSATIONS, '--delay', '0').ended()
  assert.equal(code, 0, output)
  assert.match(output, /8 conversations, 1\d\d model calls/)
  // Whether a summary is ready for the next turn or comes after it decides how far the dearest one climbs.
  assert.match(output, /support-office-kitchen +support-chat +(?:DowngradeModel +\d+ % .* finished|EndConversation +\d+ % .* ended)/)
  assert.match(output, /None \(served as asked\) +6 /)
  assert.match(output, /Overshoot against the provider's own bill: 0: /)
  const [, ledger, bill] = /our ledger (\S+), the provider's bill (\S+)\n/.exec(output) ?? []
  assert.ok(ledger !== undefined && Number(ledger) > 0)
  assert.equal(ledger, bill)
})

test(
  'farebox demo --replicas plays each conversation over several sidecars on one store, which holds one set of books',
  { skip: noRedis },
  async () => {
    const demo = farebox('demo', '--serve', '--replicas', '3', '--conversations', EXAMPLE_CONVERSATIONS, '--delay', '0')
    await demo.says(/(?:^|\n)3 sidecars at http:\S+, http:\S+, http:\S+, in front of /)
    await demo.says(/\nOvershoot against the provider's own bill: 0: /)
    const [, ledger, bill] = await demo.says(/our ledger (\S+), the provider's bill (\S+)\n/)
    assert.ok(Number(ledger) > 0)
    assert.equal(ledger, bill)
    await demo.says(/It stays up/)
    const sidecars = childrenOf(demo.pid).flatMap((pid) => adminOf(pid) ?? [])
    assert.equal(sidecars.length, 3)
    for (const admin of sidecars) {
      const metrics = await (await fetch(`http://${admin}/metrics`)).text()
      assert.match(metrics, /^farebox_turns_total\{.*outcome="settle".*\} [1-9]/m, 'each had its share of the calls')
    }
    const { code, output } = await demo.stop()
    assert.equal(code, 0, output)
  },
)

test('farebox demo --serve stays up until it is told to stop; its books are its own, whatever store the environment names', async () => {
  const args = ['demo', '--serve', '--conversations', EXAMPLE_CONVERSATIONS, '--limit', '2', '--delay', '0']
  const demo = fareboxWith({ FAREBOX_STORE: 'redis://127.0.0.1:1' }, args)
  const [, url] = await demo.says(/OPENAI_BASE_URL=(http:\S+)\/openai\/v1/)
  const answer = await clientOf(url ?? '').chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello?' }] })
  assert.equal(answer.choices.length, 1)
  const { code, output } = await demo.stop()
  assert.equal(code, 0, output)
  assert.match(output, /\nstopped\n$/)
})

test('farebox demo leaves no process behind when its terminal is closed, or nobody reads on', async () => {
  const args = ['demo', '--serve', '--conversations', EXAMPLE_CONVERSATIONS, '--limit', '2', '--delay', '0']
  const closed = farebox(...args)
  await closed.says(/OPENAI_BASE_URL/)
  const children = childrenOf(closed.pid)
  assert.equal(children.length, 2, 'a sidecar and a provider')
  closed.signal('SIGHUP')
  assert.equal((await closed.ended()).code, 0)
  const unheard = farebox(...args)
  await unheard.says(/sidecar at /)
  const others = childrenOf(unheard.pid)
  assert.equal(others.length, 2)
  unheard.listenNoMore()
  await unheard.ended()
  for (const pid of [...children, ...others]) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})

test('farebox leaves no process behind when it is killed', async () => {
  const { farebox: run } = await startRun()
  const demo = farebox('demo', '--serve', '--conversations', EXAMPLE_CONVERSATIONS, '--limit', '2', '--delay', '0')
  await demo.says(/sidecar at /)
  const children = [...childrenOf(run.pid), ...childrenOf(demo.pid)]
  assert.equal(children.length, 3, 'two sidecars and a provider')
  for (const killed of [run, demo]) {
    killed.signal('SIGKILL')
    await killed.ended()
  }
  for (const pid of children) await untilGone(pid)
})

test('farebox demo refuses to play against an upstream that it would not talk to', async () => {
  const { code, output } = await fareboxWith({ OPENAI_API_KEY: 'sk-test' }, [
    'demo',
    '--upstream',
    'anthropic=http://127.0.0.1:9/v1',
  ]).ended()
  assert.deepEqual(
    { code, output },
    { code: 1, output: 'farebox: --upstream anthropic: must be openai, the only one that the demo talks to\n' },
  )
})

test('farebox demo asks for a key before it goes to a real provider', async () => {
  const { code, output } = await farebox('demo', '--upstream', 'openai=http://127.0.0.1:9/v1').ended()
  assert.deepEqual({ code, output }, { code: 1, output: 'farebox: --upstream: OPENAI_API_KEY must hold the key of the provider\n' })
})

test('farebox tells its version, its commands, and what a mistyped one may have meant', async () => {
  assert.match((await farebox('run', '--help').ended()).output, /--listen .*\n? *.*\(default:\s+127\.0\.0\.1:4180\)/)
  assert.match((await farebox('--version').ended()).output, /^\d+\.\d+\.\d+\n$/)
  assert.match((await farebox('--help').ended()).output, /run .*\n(.*\n)+ +lint .*\n(.*\n)+ +explain /)
  const { code, output } = await farebox('lnit').ended()
  assert.equal(code, 1)
  assert.match(output, /unknown command 'lnit'\n\(Did you mean lint\?\)/)
})

test('farebox run --help names all that its sidecar takes from the environment', async () => {
  const settings = readFileSync(new URL('../../sidecar/src/settings.ts', import.meta.url), 'utf8')
  const known = [...settings.matchAll(/^ {2}(FAREBOX_\w+): /gm)].map(([, name = '']) => name)
  assert.ok(known.includes('FAREBOX_LOG_LEVEL') && known.length > 15)
  // Of a pod, and what an option or `run` itself says.
  const others = ['FAREBOX_OPERATOR', 'FAREBOX_OPERATOR_CA', 'FAREBOX_TOKEN', 'FAREBOX_POD']
  const set = ['FAREBOX_CONFIG', 'FAREBOX_LISTEN', 'FAREBOX_ADMIN', 'FAREBOX_LOG']
  const { output } = await farebox('run', '--help').ended()
  const isNamed = (name: string): boolean => new RegExp(`\\b${name}\\b`).test(output)
  assert.deepEqual(
    known.filter((name) => !isNamed(name)),
    known.filter((name) => others.includes(name) || set.includes(name)),
  )
})

test('farebox lint tells problems as JSON and ends with 1', async () => {
  const { folder, tiers } = copyOfExample()
  edit(tiers, 'price: "0.40"', 'price: 0.40')
  const { code, output } = await farebox('lint', folder, '--output', 'json').ended()
  assert.equal(code, 1)
  const [problem] = JSON.parse(output) as { severity: string; file: string; line: number; field: string }[]
  assert.ok(problem)
  assert.deepEqual([problem.severity, problem.file, problem.field], ['error', tiers, 'spec.pricing.price'])
  assert.ok(problem.line > 1)
  assert.deepEqual(await farebox('lint', EXAMPLE).ended(), { code: 0, output: '' })
})

/** The address at which a sidecar tells its metrics; null: the process is none (Linux). */
function adminOf(pid: number): string | null {
  return /(?:^|\0)FAREBOX_ADMIN=([^\0]+)/.exec(readFileSync(`/proc/${pid}/environ`, 'utf8'))?.[1] ?? null
}

/** Fails when the process is still there after a while. */
function untilGone(pid: number): Promise<unknown> {
  return waitFor(`process ${pid} is gone`, () => !isThere(pid), { withinMs: COMMAND_WAIT_MS })
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

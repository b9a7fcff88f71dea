/** The `farebox` command as people start it: `run` with a real sidecar and the fake provider, `replay`, `demo`, and what it says when it cannot. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { spawnProvider } from '../support/provider-process.ts'
import type { ProviderProcess } from '../support/provider-process.ts'
import { EXAMPLE_CONVERSATIONS } from '../support/recorded-data.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import { freePorts } from '../support/sidecar.ts'

const FAREBOX = fileURLToPath(new URL('../../bin/farebox', import.meta.url))
const EXAMPLE = fileURLToPath(new URL('../../examples/support-desk', import.meta.url))
const WAIT_MS = 20_000
const program = redisProgram()
/** Only where nobody may install it; in CI `redisProgram` makes that an error. */
const noRedis = program === null ? 'there is no redis-server' : false
/** A change must be acted on within this. */
const RELOAD_MS = 1_000

let provider: ProviderProcess
before(async () => {
  provider = await spawnProvider(['--data', EXAMPLE_CONVERSATIONS])
})
after(() => provider.stop())

const running: Farebox[] = []
const folders: string[] = []
afterEach(async () => {
  for (const farebox of running.splice(0)) await farebox.stop()
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

describe('farebox run', () => {
  test('governs calls, acts on an edited tier within a second, and tells the status at the end', async () => {
    const { farebox, url, tiers } = await startRun()
    const client = clientOf(url)
    const { data, response } = await client.chat.completions
      .create(
        { model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] },
        { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me', 'x-farebox-tier': 'support-seat' } },
      )
      .withResponse()
    assert.equal(data.choices.length, 1)
    assert.equal(response.headers.get('x-farebox-rung') ?? 'None', 'None')
    const standing = await getJson(`${url}/farebox/v1/conversations/mine`)
    assert.equal(standing['budget'], '0.10')
    assert.notEqual(standing['spent'], '0.00')

    const editedAt = performance.now()
    edit(tiers, 'price: "0.40"', 'price: "0.80"')
    const changed = await farebox.says(/config ([0-9a-f]{16}) in force, \d+ ms/)
    assert.ok(performance.now() - editedAt < RELOAD_MS, `took ${performance.now() - editedAt} ms`)
    await client.chat.completions.create(
      { model: 'gpt-4o', messages: [{ role: 'user', content: 'And mine?' }] },
      { headers: { 'x-farebox-conversation': 'other', 'x-farebox-user': 'me', 'x-farebox-tier': 'support-chat' } },
    )
    assert.equal((await getJson(`${url}/farebox/v1/conversations/other`))['budget'], '0.26') // 0.80 x 35 % - 0.02

    const { code, output } = await farebox.stop()
    assert.equal(code, 0, output)
    const atEnd = output.slice(output.indexOf('---\n'))
    assert.match(atEnd, /kind: ConversationBudget\nmetadata:\n {2}name: desk\n {2}namespace: support\nstatus:\n/)
    assert.match(atEnd, new RegExp(`hash: ${changed[1]}`))
    assert.match(atEnd, /\n {2}conversations:\n {4}total: 2\n {4}turns: 2\n {4}byRung:\n {6}None: 2\n {2}spend:\n {4}spent: '0\.\d+'\n/)
    assert.match(atEnd, /\n {4}- tier: support-seat\n(?: {6}.*\n)+? {6}margin:\n {8}targetPercent: 70\n {8}realisedPercent: \d+\n/)
    assert.match(
      atEnd,
      /kind: PricingTier\nmetadata:\n {2}name: support-chat\nstatus:\n(?: .*\n)+? {2}margin:\n {4}targetPercent: 65\n {4}realisedPercent: \d+\n/,
    )
    assert.match(atEnd, /PricingTier\/support-chat +True +Ready +0\.26/)
    assert.match(atEnd, /support-seat +1 +1 +0\.\d+/)
    assert.match(atEnd, /\nstopped\n$/)
  })

  test('keeps the last good config when a change is wrong, says where, and recovers', async () => {
    const { farebox, url, tiers } = await startRun()
    const before = await configHash(url)
    edit(tiers, 'price: "0.40"', 'price: 0.40')
    await farebox.says(/tiers\.yaml:\d+: spec\.pricing\.price: must be a decimal in quotes/)
    await farebox.says(new RegExp(`change refused: config ${before} stays in force`))
    edit(tiers, 'price: 0.40', 'price: "0.03"')
    await farebox.says(/tiers\.yaml:\d+: spec\.unitEconomics\.targetGrossMarginPercent: .*nothing is left for inference/)
    assert.equal(await configHash(url), before)
    farebox.signal('SIGUSR2')
    await farebox.says(/ConversationBudget\/support\/desk +False +TierNotAccepted +[0-9a-f]{16}/)
    edit(tiers, 'price: "0.03"', 'price: "0.50"')
    const [, hash] = await farebox.says(/config ([0-9a-f]{16}) in force, /)
    assert.equal(await configHash(url), hash)
    assert.notEqual(hash, before)
  })

  test('lets a call under way end when Ctrl+C ends the reader of its output as well', async () => {
    const { farebox, url } = await startRun()
    const call = clientOf(url).chat.completions.create(
      { model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] },
      { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me', 'x-fake-delay-ms': '2000' } },
    )
    const end = performance.now() + WAIT_MS
    while ((await getJson(`${url}/farebox/v1/status`))['callsInFlight'] !== 1) {
      assert.ok(performance.now() < end, 'no call is under way')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    farebox.listenNoMore()
    farebox.signal('SIGINT')
    assert.equal((await call).choices.length, 1)
    assert.equal((await farebox.ended()).code, 0)
  })

  test('refuses a change that an API server would refuse', async () => {
    const { farebox, tiers } = await startRun()
    edit(tiers, '  displayName: Support Chat\n', '  displayName: Support Chat\n  currency: EUR\n')
    await farebox.says(/tiers\.yaml:\d+: spec\.currency: currency cannot be changed/)
    await farebox.says(/change refused/)
  })

  test('starts a sidecar again that was killed, with its books', async () => {
    const { farebox, url } = await startRun()
    await clientOf(url).chat.completions.create(
      { model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] },
      { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me' } },
    )
    const { spent } = await getJson(`${url}/farebox/v1/conversations/mine`)
    process.kill(childOf(farebox.pid), 'SIGKILL')
    await farebox.says(/sidecar ended \(SIGKILL\); starts again in 0\.25 s/)
    await farebox.says(/sidecar is ready again/)
    assert.equal((await getJson(`${url}/farebox/v1/conversations/mine`))['spent'], spent)
  })

  test('tells when its shared store goes away, what its status is then, and when it is back', { skip: noRedis }, async () => {
    const redis = await startRedis(program ?? '')
    try {
      const { farebox, url } = await startRun(['--store', redis.url])
      const ask = () =>
        clientOf(url).chat.completions.create(
          { model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] },
          { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me' } },
        )
      await ask()
      redis.process.kill('SIGSTOP')
      await ask() // within the allowance that a budget has by default
      await farebox.says(/the shared store is away: 127\.0\.0\.1:\d+ cannot be used: Command timed out/)
      farebox.signal('SIGUSR2')
      await farebox.says(/ConversationBudget\/support\/desk +False +StoreAway/)
      redis.process.kill('SIGCONT')
      await farebox.says(/the shared store is back, and has been told what it missed/)
      assert.equal((await getJson(`${url}/farebox/v1/conversations/mine`))['turns'], 2)
    } finally {
      await redis.stop()
    }
  })

  test('says in one line why its shared store cannot be used', async () => {
    const { folder } = copyOfExample()
    const options = ['-f', folder, '--data', join(folder, 'data'), '--store', 'redis://127.0.0.1:1', ...(await freeListen())]
    const { code, output } = await farebox('run', ...options).ended()
    assert.equal(code, 1)
    assert.match(
      output,
      /the sidecar did not start: the budget store has not been reached yet: 127\.0\.0\.1:1 cannot be used: connect ECONNREFUSED/,
    )
  })

  test('says in one line which address is in use', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const bound = holder.address()
    assert.ok(bound !== null && typeof bound === 'object')
    const [admin] = await freePorts(1)
    const { folder } = copyOfExample()
    const { code, output } = await farebox(
      'run',
      '-f',
      folder,
      '--data',
      join(folder, 'data'),
      '--listen',
      `127.0.0.1:${bound.port}`,
      '--admin',
      `127.0.0.1:${admin}`,
    ).ended()
    holder.close()
    assert.equal(code, 1)
    assert.equal(output, `farebox: 127.0.0.1:${bound.port} is in use: choose another with --listen HOST:PORT\n`)
  })

  test('says in one line what is wrong with a folder', async () => {
    const { folder, tiers } = copyOfExample()
    const empty = join(folder, 'empty')
    mkdirSync(empty)
    const data = ['--data', join(folder, 'data')]
    const none = await farebox('run', '-f', empty, ...data, ...(await freeListen())).ended()
    assert.deepEqual(none, { code: 1, output: `farebox: ${empty}: must hold at least one .yaml, .yml or .json file\n` })
    edit(tiers, 'otherCost: "2.70"', 'otherCosts: "2.70"')
    const wrong = await farebox('run', '-f', folder, ...data, ...(await freeListen())).ended()
    assert.equal(wrong.code, 1)
    assert.match(wrong.output, /^\S+tiers\.yaml:\d+: spec\.unitEconomics\.otherCosts: [^\n]+\n$/)
    const nowhere = await farebox('run', '-f', EXAMPLE, '--data', join(EXAMPLE, 'tiers.yaml'), ...(await freeListen())).ended()
    assert.equal(nowhere.code, 1)
    assert.match(nowhere.output, /^farebox: --data \S+: must be a folder that this user may write to[^\n]*\n$/)
    const upstream = await farebox('run', '-f', EXAMPLE, ...data, ...(await freeListen()), '--upstream', 'opnai=http://127.0.0.1:9').ended()
    assert.deepEqual(upstream, {
      code: 1,
      output: 'farebox: --upstream opnai: must name one of the upstreams here: openai, anthropic, gemini\n',
    })
  })
})

test('farebox replay plays the recorded calls through any endpoint, and explain conversation tells what came of it', async () => {
  const { url } = await startRun()
  const args = [EXAMPLE_CONVERSATIONS, '--base-url', `${url}/openai/v1`, '--limit', '3', '--tier', 'support-seat']
  const { code, output } = await farebox('replay', ...args).ended()
  assert.equal(code, 0, output)
  assert.match(output, /support-late-parcel +finished +7 of 7 +None +\d+/)
  assert.match(output, /\n3 finished\n/)
  const explained = await farebox('explain', 'conversation', 'support-late-parcel', '--url', url).ended()
  assert.equal(explained.code, 0, explained.output)
  assert.match(explained.output, /, 7 turns, .*\ntier support-seat, .*\n\n +0\.10 +budget/)
  assert.match(explained.output, /history \(\d+ %\)/)
})

test('farebox ledger export says in one line why a file cannot be written', async () => {
  const { url } = await startRun()
  const { code, output } = await farebox('ledger', 'export', '--url', url, '--output', '/no/such/folder/ledger.ndjson').ended()
  assert.equal(code, 1)
  assert.match(output, /^farebox: --output \/no\/such\/folder\/ledger\.ndjson: cannot be written: ENOENT[^\n]*\n$/)
})

test('farebox replay ends with 1 when calls fail', async () => {
  const [port] = await freePorts(1)
  const { code, output } = await farebox('replay', EXAMPLE_CONVERSATIONS, '--base-url', `${provider.url}/nothing`, '--limit', '1').ended()
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

test('farebox demo --serve stays up until it is told to stop', async () => {
  const demo = farebox('demo', '--serve', '--conversations', EXAMPLE_CONVERSATIONS, '--limit', '2', '--delay', '0')
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

interface Ended {
  readonly code: number | null
  readonly output: string
}

interface Farebox {
  readonly pid: number
  /** Waits for words that were not yet waited for. */
  says(pattern: RegExp): Promise<RegExpExecArray>
  signal(name: NodeJS.Signals): void
  /** Closes the pipes that it writes to. */
  listenNoMore(): void
  ended(): Promise<Ended>
  stop(): Promise<Ended>
}

function farebox(...args: readonly string[]): Farebox {
  const environment = { ...process.env }
  delete environment['OPENAI_API_KEY']
  const child = spawn(FAREBOX, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment })
  const exited = once(child, 'close')
  let output = ''
  let heard = 0
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  const ended = async (): Promise<Ended> => {
    await exited
    return { code: child.exitCode, output }
  }
  const farebox: Farebox = {
    pid: child.pid ?? 0,
    async says(pattern) {
      const end = performance.now() + WAIT_MS
      for (;;) {
        const found = pattern.exec(output.slice(heard))
        if (found !== null) {
          heard += found.index + found[0].length
          return found
        }
        if (child.exitCode !== null || performance.now() > end) throw new Error(`it did not say ${String(pattern)}:\n${output}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    signal: (name) => void child.kill(name),
    listenNoMore() {
      child.stdout.destroy()
      child.stderr.destroy()
    },
    ended,
    stop() {
      child.kill('SIGTERM')
      return ended()
    },
  }
  running.push(farebox)
  return farebox
}

async function startRun(
  more: readonly string[] = [],
): Promise<{ readonly farebox: Farebox; readonly url: string; readonly tiers: string }> {
  const { folder, tiers } = copyOfExample()
  const [listen, admin] = await freePorts(2)
  const started = farebox(
    'run',
    '-f',
    folder,
    '--data',
    join(folder, 'data'),
    '--upstream',
    `openai=${provider.url}/v1`,
    '--listen',
    `127.0.0.1:${listen}`,
    '--admin',
    `127.0.0.1:${admin}`,
    ...more,
  )
  await started.says(/ready: /)
  return { farebox: started, url: `http://127.0.0.1:${listen}`, tiers }
}

async function freeListen(): Promise<readonly string[]> {
  const [listen, admin] = await freePorts(2)
  return ['--listen', `127.0.0.1:${listen}`, '--admin', `127.0.0.1:${admin}`]
}

function copyOfExample(): { readonly folder: string; readonly tiers: string } {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-run-'))
  folders.push(folder)
  cpSync(EXAMPLE, folder, { recursive: true })
  return { folder, tiers: join(folder, 'tiers.yaml') }
}

function edit(path: string, from: string, to: string): void {
  const text = readFileSync(path, 'utf8')
  assert.ok(text.includes(from), `${path} holds ${from}`)
  writeFileSync(path, text.replace(from, to))
}

function clientOf(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: 'test', maxRetries: 0 })
}

async function getJson(url: string): Promise<Record<string, unknown>> {
  const answer = await fetch(url)
  assert.equal(answer.status, 200, url)
  return (await answer.json()) as Record<string, unknown>
}

async function configHash(url: string): Promise<string> {
  const { config } = (await getJson(`${url}/farebox/v1/status`)) as { config: { hash: string } }
  return config.hash
}

/** The only child of a process (Linux). */
function childOf(pid: number): number {
  const [child] = childrenOf(pid)
  assert.ok(child !== undefined)
  return child
}

/** Fails when the process is still there after a while. */
async function untilGone(pid: number): Promise<void> {
  const end = performance.now() + WAIT_MS
  while (isThere(pid)) {
    assert.ok(performance.now() < end, `process ${pid} is still there`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

function childrenOf(pid: number): readonly number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return list === '' ? [] : list.split(' ').map(Number)
}

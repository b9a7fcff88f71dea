/** `farebox run` as people start it, with a real sidecar and the fake provider, and what it says when it cannot. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import {
  childrenOf,
  clientOf,
  COMMAND_WAIT_MS,
  edit,
  EXAMPLE,
  FAREBOX,
  freeListen,
  getJson,
  stageFarebox,
  heardIn,
} from '../support/farebox-command.ts'
import { startProvider } from '../provider/server.ts'
import { freePorts } from '../support/free-ports.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import { waitFor } from '../support/wait-for.ts'

const program = redisProgram()
/** Only where nobody may install it; in CI `redisProgram` makes that an error. */
const noRedis = program === null ? 'there is no redis-server' : false
/** macOS has another program of that name. */
const noScript = spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes('util-linux') ? false : 'there is no script(1)'
/** A change must be acted on within this. Other files run beside this one: the best of a few changes is judged. */
const RELOAD_MS = 1_000
const SOON = { withinMs: COMMAND_WAIT_MS, everyMs: 20 }
/** From what it is in the example on; 0.80 x 35 % - 0.02 is 0.26. */
const PRICES = ['0.40', '0.60', '0.70', '0.80']

const { farebox, fareboxWith, startRun, copyOfExample } = stageFarebox()

describe('farebox run', () => {
  test('sets the plain headers of an upstream; one from a Secret is left to the app, and told', async (context) => {
    const seen: IncomingHttpHeaders[] = []
    const gateway = await startProvider({ onRequest: ({ headers }) => seen.push(headers) })
    context.after(() => gateway.close())
    const { folder } = copyOfExample()
    const headers = '[{ name: x-route, value: "eu" }, { name: x-key, secretRef: { name: gateway, key: k } }]'
    const upstream = `{ name: gateway, provider: openai, baseURL: "${gateway.url}/v1", headers: ${headers} }`
    edit(join(folder, 'budget.yaml'), 'spec:\n', `spec:\n  upstreams: [${upstream}]\n`)
    const listen = await freeListen()
    const run = farebox('run', '-f', folder, '--data', join(folder, 'data'), ...listen)
    await run.says(/upstreams\[0\]\.headers\[1\]\.secretRef: is followed in a cluster alone/)
    await run.says(/ready: /)
    const answer = await fetch(`http://${listen[1]}/gateway/v1/chat/completions`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: 'Bearer of-the-app',
        'x-farebox-conversation': 'routed',
        'x-farebox-user': 'me',
        'x-route': 'us',
        'x-key': 'of the app',
      },
      body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] }),
    })
    assert.equal(answer.status, 200, await answer.text())
    assert.deepEqual([seen[0]?.['x-route'], seen[0]?.['x-key']], ['eu', 'of the app'])
  })

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

    let hash: string | undefined
    const tookMs: number[] = []
    for (const [index, price] of PRICES.slice(1).entries()) {
      const editedAt = performance.now()
      edit(tiers, `price: "${PRICES[index]}"`, `price: "${price}"`)
      hash = (await farebox.says(/config ([0-9a-f]{16}) in force, \d+ ms/))[1]
      tookMs.push(performance.now() - editedAt)
    }
    assert.ok(Math.min(...tookMs) < RELOAD_MS, `took ${tookMs.join(', ')} ms`)
    await client.chat.completions.create(
      { model: 'gpt-4o', messages: [{ role: 'user', content: 'And mine?' }] },
      { headers: { 'x-farebox-conversation': 'other', 'x-farebox-user': 'me', 'x-farebox-tier': 'support-chat' } },
    )
    assert.equal((await getJson(`${url}/farebox/v1/conversations/other`))['budget'], '0.26')

    const { code, output } = await farebox.stop()
    assert.equal(code, 0, output)
    const atEnd = output.slice(output.indexOf('---\n'))
    assert.match(atEnd, /kind: ConversationBudget\nmetadata:\n {2}name: desk\n {2}namespace: support\nstatus:\n/)
    assert.match(atEnd, new RegExp(`hash: ${hash}`))
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

  test('a change whose config cannot be written is refused, and acted on as soon as it can be', async () => {
    const { farebox, url, folder, tiers } = await startRun()
    const before = await configHash(url)
    const obstacle = join(folder, 'data/config/sidecar.json.new') // stands for a full disk
    mkdirSync(obstacle)
    edit(tiers, 'price: "0.40"', 'price: "0.80"')
    await farebox.says(/data\/config\/sidecar\.json: cannot be written: EISDIR/)
    await farebox.says(new RegExp(`change refused: config ${before} stays in force\n`))
    farebox.signal('SIGUSR2')
    await farebox.says(/PricingTier\/support-chat +True +Ready +0\.12/)
    await farebox.says(new RegExp(`ConversationBudget/support/desk +True +Ready +${before}`))
    await new Promise((resolve) => setTimeout(resolve, 1_300)) // it is tried again, and not told again
    rmdirSync(obstacle)
    const [said, hash] = await farebox.says(/(?:.|\n)*config ([0-9a-f]{16}) in force, /)
    assert.doesNotMatch(said, /refused/, 'once')
    assert.equal(await configHash(url), hash)
    assert.notEqual(hash, before)
  })

  test('keeps its books in the folder that FAREBOX_DATA names, unless --data names one', async () => {
    const { folder } = copyOfExample()
    const [ofEnvironment, named] = [join(folder, 'environment'), join(folder, 'named')]
    for (const [data, options] of [
      [ofEnvironment, []],
      [named, ['--data', named]],
    ] as const) {
      const run = fareboxWith({ FAREBOX_DATA: ofEnvironment }, ['run', '-f', folder, ...options, ...(await freeListen())])
      await run.says(/ready: /)
      assert.ok(existsSync(join(data, 'books.sqlite')))
      assert.equal((await run.stop()).code, 0)
      rmSync(data, { recursive: true })
    }
    assert.ok(!existsSync(ofEnvironment), 'what is named in words comes first')
  })

  test('refuses a data folder that another run has, and leaves the terms of that one alone', async () => {
    const { farebox: first, url, folder, tiers } = await startRun()
    const before = await configHash(url)
    const data = join(folder, 'data')
    const config = readFileSync(join(data, 'config/sidecar.json'), 'utf8')
    const other = copyOfExample()
    edit(other.tiers, 'price: "0.40"', 'price: "0.80"')
    const expected = { code: 1, output: `farebox: --data ${data}: is in use by another run: each needs a data folder of its own\n` }
    for (const store of [[], ['--store', 'redis://127.0.0.1:1']]) {
      const options = ['-f', other.folder, '--data', data, ...store, ...(await freeListen())]
      assert.deepEqual(await farebox('run', ...options).ended(), expected)
    }
    assert.equal(readFileSync(join(data, 'config/sidecar.json'), 'utf8'), config)
    assert.equal(await configHash(url), before)
    edit(tiers, 'price: "0.40"', 'price: "0.50"')
    await first.says(/config ([0-9a-f]{16}) in force, /)
  })

  test('goes on in the background of a terminal, and hears its keys in the foreground', { skip: noScript }, async (t) => {
    const { folder } = copyOfExample()
    const options = ['-f', folder, '--data', join(folder, 'data'), ...(await freeListen())]
    const terminal = openTerminal()
    t.after(() => terminal.close())
    terminal.types(`${[FAREBOX, 'run', ...options].join(' ')} &\n`)
    await terminal.says(/ready: SIGUSR2 shows status/)
    for (let line = 0; line < 3; line += 1) {
      terminal.types('\n') // there is something to read
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    terminal.types('jobs\n')
    await terminal.says(/\[1\]\+? +Running/)
    terminal.types('fg\n')
    terminal.types('s\n')
    await terminal.says(/ConversationBudget\/support\/desk +True +Ready/)
    terminal.types('\u0003')
    await terminal.says(/\nstopped\r?\n/)
  })

  test('lets a call under way end when Ctrl+C ends the reader of its output as well', async () => {
    const { farebox, url } = await startRun()
    const call = clientOf(url).chat.completions.create(
      { model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] },
      { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me', 'x-fake-delay-ms': '2000' } },
    )
    const isUnderWay = async (): Promise<boolean> => (await getJson(`${url}/farebox/v1/status`))['callsInFlight'] === 1
    await waitFor('the call is under way', isUnderWay, SOON)
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

  test('shares a conversation with another run on the same store, each with a data folder of its own', { skip: noRedis }, async () => {
    const redis = await startRedis(program ?? '')
    try {
      const [first, second] = [await startRun(['--store', redis.url]), await startRun(['--store', redis.url])]
      for (const { url } of [first, second, first, second])
        await clientOf(url).chat.completions.create(
          { model: 'gpt-4o', messages: [{ role: 'user', content: 'Where is my parcel?' }] },
          { headers: { 'x-farebox-conversation': 'mine', 'x-farebox-user': 'me' } },
        )
      const standings = await Promise.all([first, second].map(({ url }) => settledStanding(url, 'mine')))
      assert.deepEqual(standings[0], standings[1])
      assert.equal(standings[0]?.['turns'], 4)
      assert.notEqual(standings[0]['spent'], '0.00')
      for (const { farebox } of [first, second]) {
        const { code, output } = await farebox.stop()
        assert.equal(code, 0, output)
        assert.match(output, /\n {2}conversations:\n {4}total: 1\n {4}turns: 4\n/, 'each tells the status of all')
      }
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

interface Terminal {
  types(keys: string): void
  /** Waits for words that were not yet waited for. */
  says(pattern: RegExp): Promise<unknown>
  close(): Promise<void>
}

/** A shell with job control in a terminal of its own, by script(1) of util-linux. Closing it ends whatever runs in it. */
function openTerminal(): Terminal {
  const child = spawn('script', ['-qfc', 'bash --norc --noprofile -i', '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'close')
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  return {
    types: (keys) => void child.stdin.write(keys),
    says: heardIn(
      'the terminal did not show',
      () => output,
      () => false,
    ),
    async close() {
      child.kill('SIGKILL') // the kernel hangs up on whoever is left
      await exited
    },
  }
}

/** Where a conversation stands when nothing of it is held any more: an answer ends a moment before it is in the books. */
function settledStanding(url: string, id: string): Promise<Record<string, unknown>> {
  const look = async (): Promise<Record<string, unknown> | null> => {
    const standing = await getJson(`${url}/farebox/v1/conversations/${id}`)
    return standing['held'] === '0.00' ? standing : null
  }
  return waitFor('nothing is held', look, SOON)
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

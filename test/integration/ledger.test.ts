/** `farebox ledger` on a real sidecar: what it exports, and that it finds a balance that somebody has changed. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { Redis } from 'ioredis'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { MODEL } from '../support/burst.ts'
import { farebox } from '../support/farebox.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk, talking } from '../support/talk.ts'

const CONVERSATIONS = 3
const TURNS = 2

describe('the ledger of a sidecar that answered a few turns', () => {
  let provider: Provider
  let sidecar: Sidecar
  before(async () => {
    provider = await startProvider()
    const month = { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } as const
    const contract = makeContract({ caps: { perConversation: '1.00', perUser: { amount: '5.00', period: month } } })
    sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]))
    for (let conversation = 0; conversation < CONVERSATIONS; conversation += 1) {
      for (let turn = 0; turn < TURNS; turn += 1) {
        await sidecar
          .client({ 'x-farebox-conversation': `c${conversation}`, 'x-farebox-user': 'ann', 'x-fake-output-tokens': '20' })
          .chat.completions.create({ model: MODEL, max_tokens: 50, messages: [{ role: 'user', content: `Turn ${turn}.` }] })
      }
    }
    await sidecar.postJson('/farebox/v1/conversations/c0/costs', { cost: '0.0125', label: 'vector, "search"', operationId: 'x1' })
    await sidecar.idle()
  })
  after(async () => {
    await sidecar.close()
    await provider.close()
  })

  test('NDJSON: each cost once, with the balances after it, and it comes to the bill and the cost that the app added', async () => {
    const { stdout, code } = await farebox('ledger', 'export', '--url', sidecar.url)
    const entries = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { cost: string; kind: string; balances: Record<string, string> })
    assert.equal(code, 0)
    assert.equal(entries.length, CONVERSATIONS * TURNS + 1)
    const last = entries.at(-1)
    const user = Object.keys(last?.balances ?? {}).find((account) => account.startsWith('u:'))
    assert.equal(last?.balances[user ?? ''], formatUsd(provider.bill.totalNanoUsd() + 12_500_000n), "the user's balance is all of it")
  })

  test('CSV: one line for each account that an entry moves, and a column that adds up to what was spent', async () => {
    const { stdout } = await farebox('ledger', 'export', '--format', 'csv', '--url', sidecar.url)
    const lines = stdout.trim().split('\n')
    assert.equal(lines.length, 1 + 2 * (CONVERSATIONS * TURNS + 1))
    assert.match(lines[0] ?? '', /^sequence,at,kind,operation,account,cost,costOnce,balance,/)
    const once = lines.slice(1).map((line) => line.split(',')[6] ?? '')
    const sum = once.reduce((total, cost) => total + parseUsd(cost === '' ? '0' : cost), 0n)
    assert.equal(formatUsd(sum), formatUsd(provider.bill.totalNanoUsd() + 12_500_000n))
    assert.match(stdout, /"vector, ""search"""/)
  })

  test('verify agrees; and when a balance was changed behind its back, it names it and ends with 1', async () => {
    const agreed = await farebox('ledger', 'verify', '--url', sidecar.url)
    assert.deepEqual(
      [agreed.code, /every balance is what its entries come to/.test(agreed.stdout)],
      [0, true],
      agreed.stdout + agreed.stderr,
    )
    await sidecar.kill('SIGTERM')
    const database = new DatabaseSync(join(sidecar.dataDir, 'books.sqlite'))
    database.exec("UPDATE accounts SET spent = spent - 1 WHERE id = (SELECT id FROM accounts WHERE id LIKE 'c:%' LIMIT 1)")
    database.close()
    await sidecar.start()
    const { stdout, code } = await farebox('ledger', 'verify', '--url', sidecar.url)
    assert.equal(code, 1)
    assert.match(stdout, /^c:[0-9a-f]+:1: its entries come to 0\.\d+, its balance is 0\.\d+$/m)
    assert.match(stdout, /1 balances? (is|are) not what/)
  })
})

describe('farebox ledger verify finds balances whose entries are gone', () => {
  const month = { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } as const
  const contract = makeContract({ caps: { perConversation: '1.00', perUser: { amount: '5.00', period: month } } })
  const talk = async (sidecar: Sidecar): Promise<void> => {
    for (const name of ['a', 'b'])
      await sidecar
        .client({ 'x-farebox-conversation': name, 'x-farebox-user': name, 'x-fake-output-tokens': '20' })
        .chat.completions.create({ model: MODEL, max_tokens: 50, messages: [{ role: 'user', content: 'Hello.' }] })
    await sidecar.idle()
  }
  const verified = async (sidecar: Sidecar) => {
    const { code, stdout, stderr } = await farebox('ledger', 'verify', '--url', sidecar.url)
    const named = [...stdout.matchAll(/^(\w:\S+): its entries come to (\S+), its balance is (\S+)$/gm)]
    return { code, said: stdout + stderr, named: named.map(([, account = '', entered, spent]) => [account.slice(0, 1), entered, spent]) }
  }

  test('in the embedded store, one by one and all together, and one that was set below zero', async (t) => {
    const provider = await startProvider()
    const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]))
    t.after(async () => {
      await sidecar.close()
      await provider.close()
    })
    const changed = async (sql: string) => {
      await sidecar.kill('SIGTERM')
      const database = new DatabaseSync(join(sidecar.dataDir, 'books.sqlite'))
      database.exec(sql)
      database.close()
      await sidecar.start()
      return await verified(sidecar)
    }
    await talk(sidecar)
    const cost = (await sidecar.standing('a')).spent
    const { conversation } = await sidecar.standing('a')
    assert.equal((await verified(sidecar)).code, 0)
    const without = await changed(`DELETE FROM ledger WHERE accounts LIKE '%${conversation}%'`)
    const missing = ['c', 'u'].map((kind) => [kind, '0.00', cost])
    assert.deepEqual([without.code, without.named], [1, missing], without.said)
    const below = await changed(`UPDATE accounts SET spent = -1000000000 WHERE id LIKE 'c:%' AND id NOT LIKE '%${conversation}%'`)
    assert.deepEqual([below.code, below.named], [1, [['c', cost, '-1.00'], ...missing]], below.said)
    const none = await changed('UPDATE accounts SET spent = abs(spent); DELETE FROM ledger')
    assert.deepEqual([none.code, none.named.length], [1, 4], none.said)
  })

  const program = redisProgram()
  test('in Redis, whose ledger is lost', { skip: program === null }, async (t) => {
    if (program === null) return
    const redis = await startRedis(program)
    const provider = await startProvider()
    const environment = { FAREBOX_STORE: redis.url, FAREBOX_NAMESPACE: 'test' }
    const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]), { environment })
    const admin = new Redis(redis.url)
    t.after(async () => {
      admin.disconnect()
      await sidecar.close()
      await provider.close()
      await redis.stop()
    })
    await talk(sidecar)
    const cost = (await sidecar.standing('a')).spent
    const whole = await verified(sidecar)
    assert.deepEqual([whole.code, /every balance is what its entries come to/.test(whole.said)], [0, true], whole.said)
    const ledger = (await admin.keys('*:ledger'))[0] ?? ''
    const first = (await admin.xrange(ledger, '-', '+', 'COUNT', 1))[0]?.[0] ?? ''
    await admin.xdel(ledger, first)
    const missing = await verified(sidecar)
    assert.deepEqual([missing.code, missing.named], [1, ['c', 'u'].map((kind) => [kind, '0.00', cost])], missing.said)
    await admin.del(ledger)
    const none = await verified(sidecar)
    assert.deepEqual([none.code, none.named.length], [1, 4], none.said)
  })
})

test('added up by model the ledger is the bill, summaries and downgraded turns too: each under the name that served it', async (t) => {
  const provider = await startProvider()
  const contract = makeContract({
    caps: { perConversation: '1.00' },
    context: { overflow: 'DropOldest', keepRecentTurns: 1 },
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }], summarizer: 'gpt-4o-mini' },
    ladder: [
      { atPercent: 1, rung: 'Summarize' },
      { atPercent: 4, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
  const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]))
  t.after(async () => {
    await sidecar.close()
    await provider.close()
  })
  const talk = startTalk(sidecar, talking('c', 'pro'), { model: 'gpt-4o' })
  const long = 'What is said at length is worth a summary of its own, sooner or later. '.repeat(300)
  for (let turn = 0; turn < 6; turn += 1) {
    await talk.say(`Turn ${turn}: ${long}`)
    await sidecar.idle()
  }
  const { stdout } = await farebox('ledger', 'export', '--url', sidecar.url)
  const entries = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { readonly cost: string; readonly model: string; readonly purpose: string })
  const sumOf = (costs: readonly bigint[]): string => formatUsd(costs.reduce((sum, cost) => sum + cost, 0n))
  const bill = provider.bill.lines()
  const served = { 'gpt-4o': 'gpt-4o-2024-08-06', 'gpt-4o-mini': 'gpt-4o-mini-2024-07-18' }
  for (const [model, snapshot] of Object.entries(served)) {
    const own = entries.filter((entry) => entry.model === snapshot).map(({ cost }) => parseUsd(cost))
    assert.equal(sumOf(own), sumOf(bill.filter((line) => line.model === model).map(({ nanoUsd }) => nanoUsd)), model)
  }
  const kinds = new Set(entries.map(({ model, purpose }) => `${purpose} ${model}`))
  assert.deepEqual([...kinds].toSorted(), ['summary gpt-4o-mini-2024-07-18', 'turn gpt-4o-2024-08-06', 'turn gpt-4o-mini-2024-07-18'])
})

test('a model that the provider tells with half a surrogate pair is entered whole', async (t) => {
  const answer = {
    id: 'x',
    object: 'chat.completion',
    created: 1,
    model: 'served\ud83d',
    choices: [{ index: 0, message: { role: 'assistant', content: 'Hello.' }, finish_reason: 'stop' }],
    usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
  }
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(answer))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const sidecar = await startSidecar(makeConfig(`http://127.0.0.1:${port}/v1`, [makeContract({ caps: { perConversation: '1.00' } })]))
  t.after(async () => {
    await sidecar.close()
    server.close()
  })
  await sidecar
    .client({ 'x-farebox-conversation': 'c' })
    .chat.completions.create({ model: MODEL, max_tokens: 50, messages: [{ role: 'user', content: 'Hello.' }] })
  await sidecar.idle()
  const { entries } = (await sidecar.getJson('/farebox/v1/ledger')) as { readonly entries: readonly { readonly model?: string }[] }
  assert.deepEqual(
    entries.map(({ model }) => model),
    ['served\ufffd'],
  )
})

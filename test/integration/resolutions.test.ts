/** What becomes of conversations, through a real sidecar and the real client: confirmed, assumed, taken back; and what follows for the ladder. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { LedgerPageSchema } from '@farebox/crds/ledger-page.ts'
import type { ResolutionTotals, SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { formatUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const API = '/farebox/v1/conversations'
const QUIET_MS = 1_200
const WINDOW_MS = 5_000
/** Far beyond what anything here takes. */
const SOON = { withinMs: 20_000, everyMs: 20 }
const TOOL = 'close_ticket'
const CONTRACT = makeContract({
  tier: 'resolved',
  caps: { perConversation: '1.00' },
  pricing: { model: 'PerResolution', price: '0.99', targetCostPerResolution: '0.10' },
})

const program = redisProgram()
let provider: Provider
before(async () => {
  provider = await startProvider()
})
after(() => provider.close())

function talkOf(sidecar: Sidecar, id: string, headers: Record<string, string> = {}): Talk {
  return startTalk(sidecar, { 'x-farebox-conversation': id, 'x-fake-tag': id, 'x-fake-output-tokens': '100', ...headers })
}

function becomes(sidecar: Sidecar, id: string, resolution: string): Promise<unknown> {
  return waitFor(`${id} is ${resolution}`, async () => (await sidecar.standing(id)).resolution === resolution, SOON)
}

async function outcomesOf(sidecar: Sidecar, id: string): Promise<readonly string[]> {
  const { conversation } = await sidecar.standing(id)
  const { entries } = LedgerPageSchema.parse(await sidecar.getJson('/farebox/v1/ledger?limit=1000'))
  return entries.flatMap((entry) => (entry.kind === 'outcome' && entry.conversation === conversation ? [entry.label ?? ''] : []))
}

async function resolutionsOf(sidecar: Sidecar, tier = 'resolved'): Promise<ResolutionTotals> {
  const totals = ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).tiers[tier]
  assert.ok(totals !== undefined)
  return totals.resolutions
}

const stores = [
  { name: 'on the embedded store', replicas: 1, isShared: false, skip: false },
  { name: 'on Redis, three sidecars', replicas: 3, isShared: true, skip: program === null ? 'there is no redis-server' : false },
] as const
for (const { name, replicas, isShared, skip } of stores) {
  describe(`a resolution, ${name}`, { skip }, () => {
    let redis: TestServer | null = null
    let sidecars: readonly Sidecar[] = []
    const at = (index: number): Sidecar => {
      const sidecar = sidecars[index % sidecars.length]
      assert.ok(sidecar !== undefined)
      return sidecar
    }
    const post = (id: string, path: string, body: object = {}): ReturnType<Sidecar['postJson']> =>
      at(1).postJson(`${API}/${encodeURIComponent(id)}/${path}`, body)
    before(async () => {
      provider.bill.clear()
      redis = isShared ? await startRedis(program ?? '') : null
      const environment = redis === null ? {} : { FAREBOX_STORE: redis.url, FAREBOX_NAMESPACE: 'resolutions' }
      const config = makeConfig(`${provider.url}/v1`, [CONTRACT], {
        resolution: { toolNames: [TOOL], quietPeriodMs: QUIET_MS, reopenWindowMs: WINDOW_MS },
      })
      sidecars = await Promise.all(Array.from({ length: replicas }, () => startSidecar(config, { environment })))
    })
    after(async () => {
      await Promise.all(sidecars.map((sidecar) => sidecar.close()))
      await redis?.stop()
    })

    test('is assumed when nobody comes back, taken back when the user does, and assumed again: once each, however many look', async () => {
      const talk = talkOf(at(0), 'quiet')
      await talk.say('Where is my parcel?')
      await becomes(at(1), 'quiet', 'assumed')
      await talk.say('It is still not here.')
      await waitFor('it is assumed again', async () => (await outcomesOf(at(2), 'quiet')).length === 4, SOON)
      await becomes(at(0), 'quiet', 'assumed')
      await sleep(QUIET_MS)
      assert.deepEqual(await outcomesOf(at(1), 'quiet'), ['started', 'assumed', 'reversed', 'assumed'])
    })

    test('that was assumed and is then confirmed counts once', async () => {
      const before = await resolutionsOf(at(0))
      await talkOf(at(0), 'upgraded').say('Hello.')
      await becomes(at(1), 'upgraded', 'assumed')
      assert.deepEqual(await post('upgraded', 'resolution', { outcome: 'confirmed' }), { status: 200, body: { status: 'added' } })
      assert.deepEqual((await post('upgraded', 'resolution', { outcome: 'confirmed' })).body, { status: 'exists' })
      const { started, assumed = 0, confirmed } = await resolutionsOf(at(2))
      assert.deepEqual([started - before.started, assumed - (before.assumed ?? 0), confirmed - before.confirmed], [1, 0, 1])
      assert.deepEqual(await outcomesOf(at(0), 'upgraded'), ['started', 'assumed', 'confirmed'])
    })

    test('by a tool that an answer calls outlives the rest of the tool loop, and the title of the chat, and not the next question', async () => {
      const tools = [{ type: 'function', function: { name: TOOL, parameters: { type: 'object' } } } as const]
      const talk = talkOf(at(0), 'by tool')
      const closing = await talk.say('Thanks, that is all.', { headers: { 'x-fake-tool-call': TOOL }, body: { tools } })
      await becomes(at(0), 'by tool', 'confirmed')
      for (const { id } of closing.toolCalls) talk.messages.push({ role: 'tool', tool_call_id: id, content: 'closed' })
      assert.equal((await talk.goOn({ body: { tools } })).code, null)
      await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
      assert.equal((await at(1).standing('by tool')).resolution, 'confirmed')
      assert.equal((await talkOf(at(0), 'by tool').say('Write a title of three words.')).code, null)
      await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
      assert.equal((await at(1).standing('by tool')).resolution, 'confirmed')
      await talk.say('One more thing.', { body: { tools } })
      await waitFor('it is taken back', async () => (await outcomesOf(at(1), 'by tool')).includes('reversed'), SOON)
    })

    test('is not taken back by a question that the app says begins a new task', async () => {
      const talk = talkOf(at(0), 'next task')
      await talk.say('Hello.')
      await post('next task', 'resolution', { outcome: 'confirmed' })
      await talk.say('Something else: my invoice.', { headers: { 'x-farebox-boundary': 'task' } })
      await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
      assert.equal((await at(0).standing('next task')).resolution, 'confirmed')
    })

    test('is taken back by reopening, and stands once the window is over', async () => {
      for (const id of ['reopened', 'stands']) {
        await talkOf(at(0), id).say('Hello.')
        await at(0).idle() // another sidecar is told of the outcome, and may enter it before this one has entered the start
        assert.equal((await post(id, 'resolution', { outcome: 'confirmed' })).status, 200)
      }
      assert.partialDeepStrictEqual(await post('reopened', 'reopen'), { status: 200, body: { resolution: 'reversed', state: 'open' } })
      await sleep(WINDOW_MS + 100)
      assert.partialDeepStrictEqual(await post('stands', 'resolution', { outcome: 'reversed' }), { status: 409 })
      assert.partialDeepStrictEqual(await post('stands', 'reopen'), { status: 200, body: { resolution: 'confirmed', state: 'open' } })
      await talkOf(at(1), 'stands').say('Good morning.')
      await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
      await sleep(QUIET_MS * 2)
      assert.deepEqual(await outcomesOf(at(0), 'stands'), ['started', 'confirmed'])
    })

    test('is assumed of nothing that is under way', async () => {
      const talk = talkOf(at(0), 'slow')
      await talk.say('Hello.')
      const answer = talk.say('Think hard.', { headers: { 'x-fake-delay-ms': String(QUIET_MS * 3) } })
      const isUnderWay = async (): Promise<boolean> => ((await at(0).getJson('/farebox/v1/status')) as SidecarStatus).callsInFlight > 0
      await waitFor('the call is under way', isUnderWay, SOON)
      await sleep(QUIET_MS * 2)
      assert.deepEqual(await outcomesOf(at(1), 'slow'), ['started'])
      await answer
      await becomes(at(0), 'slow', 'assumed')
      assert.deepEqual(await outcomesOf(at(0), 'slow'), ['started', 'assumed'])
    })

    test('is told in status and metrics: each once, their cost, and what was lost', async () => {
      const lost = talkOf(at(0), 'lost')
      await lost.say('Hello.')
      await post('lost', 'resolution', { outcome: 'confirmed' })
      await post('lost', 'reopen')
      await sleep(QUIET_MS * 2) // all others are assumed, or were taken back for good
      const told = await resolutionsOf(at(0))
      assert.deepEqual(await resolutionsOf(at(1)), told, 'all tell the same')
      const { started, assumed = 0, confirmed, reversed, cost, costPer, unresolvedCost } = told
      assert.equal(cost, formatUsd(provider.bill.totalNanoUsd()))
      const ids = ['quiet', 'upgraded', 'by tool', 'next task', 'reopened', 'stands', 'slow', 'lost']
      const standings = await Promise.all(ids.map((id) => at(0).standing(id)))
      const isResolved = ({ resolution }: { readonly resolution: string }): boolean =>
        resolution === 'assumed' || resolution === 'confirmed'
      assert.deepEqual([started, assumed + confirmed - reversed], [ids.length, standings.filter(isResolved).length])
      assert.equal(costPer, formatUsd(provider.bill.totalNanoUsd() / BigInt(assumed + confirmed - reversed)))
      const unresolved = ids.filter((_, index) => !isResolved(standings[index] ?? { resolution: 'none' }))
      assert.ok(unresolved.includes('lost'))
      assert.equal(unresolvedCost, formatUsd(unresolved.reduce((sum, id) => sum + provider.bill.totalNanoUsd(id), 0n)))

      const series = [
        new RegExp(`^farebox_resolutions\\{tier="resolved",outcome="assumed"\\} ${assumed}$`, 'm'),
        new RegExp(`^farebox_resolutions\\{tier="resolved",outcome="reversed"\\} ${reversed}$`, 'm'),
        /^farebox_resolution_ratio\{tier="resolved"\} 0\.\d+$/m,
        new RegExp(`^farebox_resolution_cost_usd\\{tier="resolved"\\} ${costPer}$`, 'm'),
        /^farebox_resolution_target_usd\{tier="resolved"\} 0\.1$/m,
        /^farebox_resolution_price_usd\{tier="resolved"\} 0\.99$/m,
        /^farebox_resolution_over_target\{tier="resolved"\} 0$/m,
        new RegExp(`^farebox_unresolved_cost_usd\\{tier="resolved"\\} ${unresolvedCost}$`, 'm'),
      ]
      // The first look has them worked out.
      const isTold = async (): Promise<boolean> => {
        const text = await at(0).metrics()
        return series.every((line) => line.test(text))
      }
      await waitFor('metrics tell all of it', isTold, SOON)
      const entered = (await Promise.all(sidecars.map((sidecar) => sidecar.metrics()))).flatMap((text) =>
        [...text.matchAll(/^farebox_outcomes_total\{tier="resolved",outcome="started"\} (\d+)$/gm)].map(([, count]) => Number(count)),
      )
      assert.equal(
        entered.reduce((sum, count) => sum + count, 0),
        ids.length,
      )
    })

    test('is none of the embeddings of a chat that has no id: what is sold is the chat, and all of it costs', async () => {
      const totals = async () => {
        const { resolved } = ((await at(0).getJson('/farebox/v1/status')) as SidecarStatus).tiers
        assert.ok(resolved !== undefined)
        const { conversations, sessions = 0, turns, resolutions } = resolved
        return { conversations, sessions, turns, started: resolutions.started, assumed: resolutions.assumed ?? 0 }
      }
      const before = await totals()
      const messages: { role: 'user' | 'assistant'; content: string }[] = []
      const client = at(0).client()
      for (const content of ['Which lamps are there?', 'And which of them are green?']) {
        await client.embeddings.create({ model: 'text-embedding-3-small', input: content })
        messages.push({ role: 'user', content })
        const { choices } = await client.chat.completions.create({ model: 'gpt-4o', messages })
        messages.push({ role: 'assistant', content: choices[0]?.message.content ?? '' })
      }
      await waitFor('the chat is assumed to be resolved', async () => (await totals()).assumed > before.assumed, SOON)
      await sleep(QUIET_MS)
      const sold = await totals()
      assert.deepEqual(
        Object.entries(sold).map(([name, count]) => [name, count - before[name as keyof typeof before]]),
        Object.entries({ conversations: 1, sessions: 1, turns: 4, started: 1, assumed: 1 }),
      )
      const { entries } = LedgerPageSchema.parse(await at(1).getJson('/farebox/v1/ledger?limit=1000'))
      const lone = entries.filter(({ conversation = '' }) => conversation.startsWith('call-'))
      assert.deepEqual(
        lone.map(({ kind, model }) => [kind, model]),
        Array.from({ length: 2 }, () => ['settlement', 'text-embedding-3-small']),
      )
      assert.equal((await at(0).standing(lone[0]?.conversation ?? '')).turns, 1)
    })
  })
}

describe('a tier priced per resolution whose cost per resolution goes over target and comes back', () => {
  const DAY_MS = 86_400_000
  /** The sidecar's clock goes so far ahead of ours. */
  const ahead = `--import=data:text/javascript,${encodeURIComponent(
    'const now = Date.now; const ahead = Number(process.env.TEST_AHEAD_MS); Date.now = () => now() + ahead',
  )}`
  const contract = makeContract({
    tier: 'resolved',
    caps: { perConversation: '0.10', perUser: { amount: '1.00', period: { unit: 'Month', timeZone: 'UTC', anchorDay: 1 } } },
    pricing: { model: 'PerResolution', price: '0.99', targetCostPerResolution: '0.005' },
    sessions: { maxResets: 2, idleAfterMs: DAY_MS / 2 },
    models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
    ladder: [
      { atPercent: 5, rung: 'DowngradeModel' },
      { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
    ],
  })
  const environment = { NODE_OPTIONS: ahead, TEST_AHEAD_MS: '0' }
  let sidecar: Sidecar
  before(async () => {
    const config = makeConfig(`${provider.url}/v1`, [contract], {
      resolution: { toolNames: [], quietPeriodMs: 3_600_000, reopenWindowMs: 60_000 },
    })
    sidecar = await startSidecar(config, { environment })
  })
  after(() => sidecar.close())

  async function daysPass(days: number): Promise<void> {
    await sidecar.idle()
    await sidecar.kill('SIGTERM')
    environment.TEST_AHEAD_MS = String(Number(environment.TEST_AHEAD_MS) + days * DAY_MS)
    await sidecar.start()
  }
  /** What the second turn of a conversation that begins now stands on: its first has used more than 5 %. */
  async function rungOf(id: string, headers: Record<string, string> = {}): Promise<string | null> {
    const talk = talkOf(sidecar, id, { 'x-fake-output-tokens': '600', ...headers })
    await talk.say('Hello.')
    return (await talk.say('And then?')).headers.get('x-farebox-rung')
  }
  async function conversations(name: string, count: number, outputTokens: number): Promise<void> {
    for (let begun = 0; begun < count; begun += 10) {
      const ids = Array.from({ length: Math.min(10, count - begun) }, (_, index) => `${name} ${begun + index}`)
      await Promise.all(
        ids.map(async (id) => {
          assert.equal((await talkOf(sidecar, id, { 'x-fake-output-tokens': String(outputTokens) }).say('Hello.')).code, null)
          const { status } = await sidecar.postJson(`${API}/${encodeURIComponent(id)}/resolution`, { outcome: 'confirmed' })
          assert.equal(status, 200)
        }),
      )
    }
  }

  test(
    'applies its ladder to conversations that begin from then on, and no more once it is down to 95 %',
    { timeout: 120_000 },
    async () => {
      const returning = { 'x-farebox-user': 'ann' }
      assert.equal(await rungOf('before'), 'None')
      assert.equal(await rungOf('returns', returning), 'None')
      await conversations('dear', 52, 700) // 0.007 each
      await daysPass(1)
      assert.equal((await resolutionsOf(sidecar)).isOverTarget, true)
      assert.equal(await rungOf('over'), 'DowngradeModel')
      assert.equal((await talkOf(sidecar, 'before', { 'x-fake-output-tokens': '600' }).say('Go on.')).headers.get('x-farebox-rung'), 'None')
      assert.equal(await rungOf('returns', returning), 'DowngradeModel', 'another session of it begins')
      assert.equal((await sidecar.standing('returns')).session, 2)
      await conversations('cheap', 55, 300) // 0.003 each: about 0.0053 for each of all
      await daysPass(1)
      const { costPer } = await resolutionsOf(sidecar)
      assert.ok(
        costPer !== null && Number(costPer) > 0.00475 && Number(costPer) < 0.0055,
        `${costPer} is between 95 and 110 % of the target`,
      )
      assert.equal(await rungOf('between'), 'DowngradeModel', 'as it was')
      await conversations('cheaper', 60, 200)
      await daysPass(1)
      assert.equal((await resolutionsOf(sidecar)).isOverTarget, false)
      assert.equal(await rungOf('back'), 'None')
      assert.equal(await rungOf('returns', returning), 'None')
      const standing = await sidecar.standing('over')
      assert.equal(standing.rung, 'DowngradeModel', 'what began meanwhile goes on as it began')
    },
  )
})

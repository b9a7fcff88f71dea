/** Users of a tier, through a real sidecar: who is heavy, who belongs on the next tier and is told so once, and what `farebox top` shows of it. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { LedgerPageSchema } from '@farebox/crds/ledger-page.ts'
import type { SidecarStatus, TierUserTotals } from '@farebox/crds/sidecar-status.ts'
import { UsersPageSchema } from '@farebox/crds/users-page.ts'
import type { UsersPage } from '@farebox/crds/users-page.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { farebox } from '../support/farebox.ts'
import { makeConfig, makeContract, makePeriod } from '../support/make.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said, Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const SOON = { withinMs: 20_000, everyMs: 20 }
const OFFER = 'You use this enough for Max.'
const USERS_BUDGET = '0.10'
/** 100 output tokens cost 0.001, and a little for the question. */
const CENT_TOKENS = 900
const PRO = makeContract({
  caps: { perConversation: '1.00', perUser: { amount: USERS_BUDGET, period: makePeriod('Month') } },
  heavyUserTimesMedian: 4,
  upgrade: { tier: 'max', whenUserExceedsPercent: 50 },
})
/** Each user turn is a session of its own. */
const TOLD = makeContract({
  tier: 'told',
  caps: { perConversation: '1.00', perUser: { amount: USERS_BUDGET, period: makePeriod('Day') } },
  upgrade: { tier: 'max', whenUserExceedsPercent: 20 },
  notices: { mode: 'Inline', texts: { Upgrade: { en: OFFER }, Reset: { en: '' } } },
  sessions: { maxTurns: 1, maxResets: 50 },
})

const program = redisProgram()
let provider: Provider
before(async () => {
  provider = await startProvider()
})
after(() => provider.close())

function talkOf(sidecar: Sidecar, user: string, id: string, headers: Record<string, string> = {}): Talk {
  return startTalk(sidecar, {
    'x-farebox-conversation': id,
    'x-farebox-user': user,
    'x-fake-tag': user,
    'x-fake-output-tokens': String(CENT_TOKENS),
    ...headers,
  })
}

const isOffer = ({ code, text }: Said): boolean => {
  assert.equal(code, null)
  return text.includes(OFFER)
}

async function offersOf(sidecar: Sidecar): Promise<number> {
  const { entries } = LedgerPageSchema.parse(await sidecar.getJson('/farebox/v1/ledger?limit=1000'))
  return entries.filter(({ kind, label }) => kind === 'outcome' && label === 'offered').length
}

const stores = [
  { name: 'on the embedded store', replicas: 1, isShared: false, skip: false },
  { name: 'on Redis, two sidecars', replicas: 2, isShared: true, skip: program === null ? 'there is no redis-server' : false },
] as const
for (const { name, replicas, isShared, skip } of stores) {
  describe(`users, ${name}`, { skip }, () => {
    let redis: TestServer | null = null
    let sidecars: readonly Sidecar[] = []
    const at = (index: number): Sidecar => {
      const sidecar = sidecars[index % sidecars.length]
      assert.ok(sidecar !== undefined)
      return sidecar
    }
    const pageOf = async (query = ''): Promise<UsersPage> => UsersPageSchema.parse(await at(0).getJson(`/farebox/v1/users${query}`))
    const usersOf = async (sidecar: Sidecar): Promise<TierUserTotals | undefined> =>
      ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).tiers['pro']?.users
    before(async () => {
      provider.bill.clear()
      redis = isShared ? await startRedis(program ?? '') : null
      const environment = redis === null ? {} : { FAREBOX_STORE: redis.url, FAREBOX_NAMESPACE: 'users' }
      const config = makeConfig(`${provider.url}/v1`, [PRO, TOLD])
      sidecars = await Promise.all(Array.from({ length: replicas }, () => startSidecar(config, { environment })))
      // Turns of about a cent each: most users one, a few more.
      const turns = { ann: 1, bob: 1, cat: 1, dan: 3, eve: 6 }
      for (const [user, count] of Object.entries(turns))
        for (let turn = 0; turn < count; turn++) assert.equal((await talkOf(at(turn), user, `${user} ${turn}`).say('Hello.')).code, null)
      await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
    })
    after(async () => {
      await Promise.all(sidecars.map((sidecar) => sidecar.close()))
      await redis?.stop()
    })

    test('come heaviest first, by what the provider billed, with their share of the budget; the app finds its own', async () => {
      const page = await pageOf()
      assert.deepEqual([page.tier, page.budget, page.active, page.oneIn], ['pro', USERS_BUDGET, 5, 1])
      assert.equal(page.spent, formatUsd(provider.bill.totalNanoUsd()))
      const names = new Map<string, string>()
      for (const user of ['ann', 'bob', 'cat', 'dan', 'eve']) {
        const standing = (await at(1).getJson(`/farebox/v1/users/${user}`)) as {
          user: string
          spent: string
          percent: number
          heavy: boolean
        }
        names.set(standing.user, user)
        assert.equal(standing.spent, formatUsd(provider.bill.totalNanoUsd(user)))
        const listed = page.users.find((line) => line.user === standing.user)
        assert.partialDeepStrictEqual(standing, { ...listed })
        assert.equal(standing.percent, Number((provider.bill.totalNanoUsd(user) * 100n) / parseUsd(USERS_BUDGET)))
      }
      assert.deepEqual(
        page.users.slice(0, 2).map(({ user }) => names.get(user)),
        ['eve', 'dan'],
      )
      assert.deepEqual(
        page.users.map(({ heavy, upgradeCandidate, timesMedian }) => [heavy, upgradeCandidate, timesMedian]),
        [
          [true, true, 6],
          [false, false, 3],
          [false, false, 1],
          [false, false, 1],
          [false, false, 1],
        ],
      )
      assert.ok(page.users.every(({ user }) => /^[0-9a-f]{32}$/.test(user)))
    })

    test('are told in status and metrics, the same by each sidecar', async () => {
      const page = await pageOf()
      for (const sidecar of sidecars) {
        const users = await usersOf(sidecar)
        assert.deepEqual([users?.active, users?.heavy, users?.upgradeCandidates, users?.spent], [5, 1, 1, page.spent])
        assert.equal(users?.heavySpent, formatUsd(provider.bill.totalNanoUsd('eve')))
        assert.deepEqual(users.byUse, { '0-24': 3, '25-49': 1, '50-74': 1, '75-99': 0, '100': 0 })
        const isTold = async (): Promise<boolean> => {
          const text = await sidecar.metrics()
          return (
            text.includes('farebox_users{tier="pro"} 5\n') &&
            text.includes('farebox_heavy_users{tier="pro"} 1\n') &&
            text.includes('farebox_upgrade_candidates{tier="pro"} 1\n') &&
            text.includes('farebox_users_by_use{tier="pro",percent="0-24"} 3\n')
          )
        }
        await waitFor('metrics tell it', isTold, SOON)
      }
    })

    test('`farebox top users` shows them, for people and as JSON; `farebox top` tiers and conversations', async () => {
      const json = await farebox('top', 'users', '--url', at(0).url, '-o', 'json')
      assert.deepEqual(UsersPageSchema.parse(JSON.parse(json.stdout)), await pageOf())
      const { stdout, code } = await farebox('top', 'users', '--url', at(0).url, '--limit', '2')
      assert.equal(code, 0)
      const lines = stdout.trimEnd().split('\n')
      assert.match(
        lines[0] ?? '',
        /^pro, .*: 5 users, 0\.\d{4} USD, 0\.1000 for each, median 0\.\d{4}, heavy 1, who cost 5\d %, for max 1; by share of/,
      )
      assert.match(lines[2] ?? '', /^USER +SPENT USD +BUDGET +MEDIAN +HEAVY +UPGRADE$/)
      assert.match(lines[3] ?? '', /^[0-9a-f]{32} +0\.\d{4} +5\d % +6 x +yes +to max$/)
      assert.match(lines[4] ?? '', /^[0-9a-f]{32} +0\.\d{4} +2\d % +3 x$/)
      assert.equal(lines.length, 5)
      const none = await farebox('top', 'users', '--url', at(0).url, '--tier', 'max')
      assert.deepEqual([none.code, none.stderr], [1, 'farebox: tier: this workload has no such tier\n'])
      const top = await farebox('top', '--url', at(0).url, '--limit', '3')
      assert.match(top.stdout, /^TIER +CONVERSATIONS +TURNS +SPENT/)
      assert.match(top.stdout, /\nCONVERSATION +TIER +USED +SPENT +BUDGET +RUNG/)
      assert.equal(top.stdout.match(/^[0-9a-f]{32} +pro +/gm)?.length, 3)
      assert.match((await farebox('top', 'users', '--limit', '0')).stderr, /from 1 to 1000/)
    })

    test('are told of the next tier once in a period, whatever conversation, session or sidecar it is', async () => {
      const headers = { 'x-farebox-tier': 'told' }
      const first = talkOf(at(0), 'fay', 'first', headers)
      const told: boolean[] = []
      for (let turn = 0; turn < 5; turn++) told.push(isOffer(await first.say(`Question ${turn}.`)))
      assert.equal(told[0], false, 'nothing is used yet')
      assert.equal(told.filter(Boolean).length, 1)
      assert.ok((await at(0).standing('first')).session > 1, 'over several sessions')
      for (const index of [0, 1]) {
        const other = talkOf(at(index), 'fay', `other ${index}`, headers)
        assert.equal(isOffer(await other.say('Hello.')), false)
        assert.equal(isOffer(await other.say('And now?')), false)
      }
      assert.equal(await offersOf(at(0)), 1)
      // Two of another user's conversations reach it at the same time, at two sidecars.
      const twins = [0, 1].map((index) => talkOf(at(index), 'gus', `twin ${index}`, headers))
      for (const talk of twins) assert.equal(isOffer(await talk.say('Hello.')), false)
      await Promise.all(sidecars.map((sidecar) => sidecar.idle()))
      let offers = 0
      for (let turn = 0; turn < 2; turn++) {
        const said = await Promise.all(twins.map((talk) => talk.say(`Question ${turn}.`)))
        offers += said.filter(isOffer).length
      }
      assert.equal(offers, 1)
      assert.equal(await offersOf(at(1)), 2)
    })
  })
}

test('a new period begins anew: the list is empty, and the user is told again', async () => {
  const ahead = `--import=data:text/javascript,${encodeURIComponent(
    'const now = Date.now; const ahead = Number(process.env.TEST_AHEAD_MS); Date.now = () => now() + ahead',
  )}`
  const environment = { NODE_OPTIONS: ahead, TEST_AHEAD_MS: '0' }
  const sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [TOLD]), { environment })
  try {
    const talk = talkOf(sidecar, 'hal', 'over midnight')
    const reachesIt = async (): Promise<boolean[]> => {
      const told: boolean[] = []
      for (let turn = 0; turn < 4; turn++) told.push(isOffer(await talk.say('Hello.')))
      return told.filter(Boolean)
    }
    assert.deepEqual(await reachesIt(), [true])
    const active = async (): Promise<number> => UsersPageSchema.parse(await sidecar.getJson('/farebox/v1/users')).active
    assert.equal(await active(), 1)
    await sidecar.idle()
    await sidecar.kill('SIGTERM')
    environment.TEST_AHEAD_MS = String(86_400_000)
    await sidecar.start()
    assert.equal(await active(), 0)
    assert.deepEqual(await reachesIt(), [true])
    assert.equal(await offersOf(sidecar), 2)
  } finally {
    await sidecar.close()
  }
})

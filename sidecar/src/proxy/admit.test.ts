import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { makeConfig, makeContract, makeUpstream } from '../../../test/support/make.ts'
import { EMPTY_ACCOUNT } from '../core/budget.ts'
import type { Account } from '../core/budget.ts'
import { chatRequest, user } from '../core/requests.testing.ts'
import { balancesOf, termsOf } from '../core/terms.ts'
import type { CapDraw } from '../core/terms.ts'
import { FactorTable } from '../core/token-factor.ts'
import { openEmbeddedStore } from '../store/embedded.ts'
import { conversationFor, reserveStep, START_MS } from '../store/steps.testing.ts'
import type { BudgetStore } from '../store/store.ts'
import { admit, NOTHING_UNDONE } from './admit.ts'
import type { AdmitResult } from './admit.ts'
import type { Turn } from './exchange.ts'
import { HoldKeeper } from './hold-keeper.ts'
import type { HoldTellers } from './hold-keeper.ts'
import { MoneyQueue } from './money-queue.ts'
import { Offers } from './offers.ts'
import { ServedTiers } from './served-tiers.ts'
import { SideLoops } from './side-loops.ts'

const CONTRACT = makeContract({ models: { allow: [], downgrades: [], maxOutputTokens: 100 } })
const TERMS = termsOf(CONTRACT)
const CONVERSATION = conversationFor('A', START_MS, { contractHash: CONTRACT.hash })
const OWN: CapDraw = { kind: 'conversation', account: 'c:A:1', cap: parseUsd('0.50'), periodKey: null }

interface Told {
  readonly result: AdmitResult
  readonly waits: readonly string[]
  /** Code and cap of what goes on under `Observe` alone. */
  readonly observed: readonly string[]
  readonly lines: readonly string[]
}

/** A question of a conversation, of whose budget this was read a moment ago. */
async function admitted(store: BudgetStore, read: Partial<Account> = {}, parts: Partial<SidecarConfig> = {}): Promise<Told> {
  const waits: string[] = []
  const observed: string[] = []
  const lines: string[] = []
  const gateway = {
    store,
    queue: new MoneyQueue(),
    offers: new Offers(),
    servedTiers: new ServedTiers(),
    sideLoops: new SideLoops(),
    factors: new FactorTable(),
    holds: new HoldKeeper(store, {} as unknown as HoldTellers, () => START_MS),
    failedSwaps: new Map(),
    uneditable: new Map(),
    observed: new WeakSet(),
    metrics: {
      waits: { add: ([outcome = '']: readonly string[]) => waits.push(outcome) },
      observedRefusals: { add: (labels: readonly string[]) => observed.push(labels.join()) },
    },
    log: { info: (_: object, message: string) => lines.push(message) },
    newId: () => randomUUID(),
    nowMs: () => START_MS,
  }
  const turn = {
    gateway,
    policy: { config: makeConfig('http://provider/v1', [CONTRACT], parts), prices: createPriceList([], loadCatalogue()) },
    upstream: makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'http://provider/v1' }),
    wire: {},
    incoming: { headers: {} },
    outgoing: { destroyed: false },
    request: chatRequest([user('Where is my order, please? '.repeat(100))]),
    conversation: CONVERSATION,
    conversationId: CONVERSATION.id,
    exists: true,
    user: null,
    terms: TERMS,
    heldTo: TERMS,
    earlierTokens: 0,
    draws: [OWN],
    balances: balancesOf([OWN], new Map([[OWN.account, { ...EMPTY_ACCOUNT, ...read }]])),
  } as unknown as Turn
  const result = await admit(turn, NOTHING_UNDONE)
  // The provider would not have what we changed: the call is made once more.
  if (parts.mode === 'Observe') await admit(turn, { ...NOTHING_UNDONE, usage: true })
  return { result, waits, observed, lines }
}

/** What there is when all other calls of the conversation have ended. */
async function emptiedStore(): Promise<BudgetStore> {
  const store = openEmbeddedStore({ file: ':memory:', nowMs: () => START_MS, writer: 'inline' })
  await store.reserve(reserveStep('other', START_MS, { atLeast: 1n, atMost: OWN.cap, cap: OWN.cap }, { initial: CONVERSATION }))
  await store.void({ operationId: 'other', atMs: START_MS })
  return store
}

test('who finds the money held by a call that has ended meanwhile goes at once: nobody would wake it', async () => {
  const store = await emptiedStore()
  const nearlyAll = OWN.cap - parseUsd('0.001')
  const { result, waits } = await admitted(store, { held: nearlyAll, heldInput: nearlyAll })
  assert.deepEqual([result.status, waits], ['admitted', []])
  await store.close()
})

test('while a call is out, what counts as used of its input is what is likely to be billed, not what it may come to', async () => {
  const store = await emptiedStore()
  const { result } = await admitted(store)
  assert.ok(result.status === 'admitted')
  const { plan, granted } = result.admitted
  const { accounts } = await store.read({ conversation: CONVERSATION.id, accounts: [OWN.account], nowMs: START_MS })
  assert.deepEqual(accounts.get(OWN.account), { spent: 0n, held: granted, heldInput: plan.likelyInputCost })
  assert.ok(plan.likelyInputCost < plan.inputCost)
  await store.close()
})

test('Observe: what would be refused is told once, however often the call is made', async () => {
  const store = await emptiedStore()
  const over = { spent: OWN.cap }
  const { result, ...told } = await admitted(store, over, { mode: 'Observe' })
  assert.equal(result.status, 'admitted')
  assert.deepEqual(told, { waits: [], observed: ['conversation_budget_exhausted,conversation'], lines: ['observed: would be refused'] })
  assert.deepEqual((await admitted(store, over)).observed, [])
  await store.close()
})

test('Observe: what would wait goes on at once and is told as that, where the money is held still', async () => {
  const store = await emptiedStore()
  const all = { held: OWN.cap, heldInput: 1n }
  assert.deepEqual((await admitted(store, all, { mode: 'Observe' })).lines, [], 'it has come back meanwhile')
  await store.reserve(reserveStep('another', START_MS, { atLeast: 1n, atMost: OWN.cap, cap: OWN.cap }, { initial: CONVERSATION }))
  const { result, ...told } = await admitted(store, all, { mode: 'Observe' })
  assert.equal(result.status, 'admitted')
  assert.deepEqual(told, { waits: ['observed'], observed: [], lines: ['observed: would wait for money that other calls hold'] })
  await store.close()
})

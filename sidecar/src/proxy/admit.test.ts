import assert from 'node:assert/strict'
import { test } from 'node:test'
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
import { SideLoops } from './side-loops.ts'

const CONTRACT = makeContract({ models: { allow: [], downgrades: [], maxOutputTokens: 100 } })
const CONVERSATION = conversationFor('A', START_MS, { contractHash: CONTRACT.hash })
const OWN: CapDraw = { kind: 'conversation', account: 'c:A:1', cap: parseUsd('0.50'), periodKey: null }

/** A question of a conversation, of whose budget this was read a moment ago. */
async function admitted(store: BudgetStore, read: Partial<Account> = {}): Promise<{ result: AdmitResult; waits: readonly string[] }> {
  const waits: string[] = []
  const gateway = {
    store,
    queue: new MoneyQueue(),
    offers: new Offers(),
    sideLoops: new SideLoops(),
    factors: new FactorTable(),
    holds: new HoldKeeper(store, {} as unknown as HoldTellers, () => START_MS),
    failedSwaps: new Map(),
    uneditable: new Map(),
    metrics: { waits: { add: ([outcome = '']: readonly string[]) => waits.push(outcome) } },
    newId: () => 'op',
    nowMs: () => START_MS,
  }
  const turn = {
    gateway,
    policy: { config: makeConfig('http://provider/v1', [CONTRACT]), prices: createPriceList([], loadCatalogue()) },
    upstream: makeUpstream({ name: 'openai', provider: 'openai', baseUrl: 'http://provider/v1' }),
    wire: {},
    outgoing: { destroyed: false },
    request: chatRequest([user('Where is my order, please? '.repeat(100))]),
    conversation: CONVERSATION,
    conversationId: CONVERSATION.id,
    exists: true,
    user: null,
    terms: termsOf(CONTRACT),
    heldTo: termsOf(CONTRACT),
    earlierTokens: 0,
    draws: [OWN],
    balances: balancesOf([OWN], new Map([[OWN.account, { ...EMPTY_ACCOUNT, ...read }]])),
  } as unknown as Turn
  return { result: await admit(turn, NOTHING_UNDONE), waits }
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

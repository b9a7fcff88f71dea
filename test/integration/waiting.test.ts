/** Calls that wait for money which others hold: in what order, for how long, and what has become of their conversation meanwhile. */
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makePeriod } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Said } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

/** Of gpt-4o, a thousand tokens of output cost a cent. */
const THOUSAND = 1_000
const PERIOD = makePeriod('Day')

let provider: Provider
let sidecar: Sidecar
/** `x-fake-tag` of the calls that the provider got, in order. */
let out: string[] = []
/** Of those whose answer a test keeps back: by tag. */
const kept = new Map<string, PromiseWithResolvers<void>>()
before(async () => {
  provider = await startProvider({
    onRequest: ({ headers }) => {
      const tag = String(headers['x-fake-tag'])
      out.push(tag)
      return kept.get(tag)?.promise
    },
  })
})
after(() => provider.close())
beforeEach(() => {
  out = []
  kept.clear()
})
afterEach(() => sidecar.close())

function limitedTo(amount: string, contract: Contract): SidecarConfig {
  return makeConfig(`${provider.url}/v1`, [contract], { limits: [{ amount, period: PERIOD }] })
}

interface Asked {
  readonly conversation?: string
  readonly user?: string
  readonly text?: string
  readonly maxTokens: number
  readonly delayMs?: number
  /** The provider has it until `answer`. */
  readonly isKept?: boolean
}

/** One call, named as the provider gets it. Its answer has 20 tokens. */
function ask(tag: string, { conversation = tag, user, text = 'Hello.', maxTokens, delayMs = 0, isKept = false }: Asked): Promise<Said> {
  if (isKept) kept.set(tag, Promise.withResolvers())
  const talk = startTalk(sidecar, {
    'x-farebox-conversation': conversation,
    ...(user === undefined ? {} : { 'x-farebox-user': user }),
    'x-fake-tag': tag,
    'x-fake-output-tokens': '20',
    'x-fake-delay-ms': String(delayMs),
  })
  // In the middle of a conversation, whoever asks.
  talk.messages.push({ role: 'user', content: 'Hello.' }, { role: 'assistant', content: 'Good day.' })
  return talk.say(text, { body: { max_tokens: maxTokens } })
}

const answer = (tag: string): void => kept.get(tag)?.resolve()
const isOut = async (tag: string): Promise<void> => void (await waitFor(`${tag} is out`, () => out.includes(tag)))
/** Until a call that was just made has found no money and waits: nothing tells of that. */
const waits = (): Promise<void> => sleep(200)

test('who comes later waits behind who waits, even where it would fit at once', async () => {
  const contract = makeContract({ models: { allow: [], downgrades: [], usefulOutputTokens: 4 * THOUSAND } })
  sidecar = await startSidecar(limitedTo('0.055', contract))
  const holder = ask('holder', { maxTokens: 3 * THOUSAND, isKept: true })
  await isOut('holder')
  const large = ask('large', { maxTokens: 4 * THOUSAND })
  await waits()
  const small = [0, 1, 2].map((call) => ask(`small ${call}`, { maxTokens: THOUSAND }))
  await waits()
  answer('holder')
  for (const said of await Promise.all([holder, large, ...small])) assert.equal(said.status, 200)
  assert.deepEqual(out.slice(0, 2), ['holder', 'large'])
})

test('when much comes back at once, all go whom it is enough for, not the first alone', async () => {
  sidecar = await startSidecar(limitedTo('0.045', makeContract({ models: { allow: [], downgrades: [], usefulOutputTokens: THOUSAND } })))
  const holder = ask('holder', { maxTokens: 4 * THOUSAND, isKept: true })
  await isOut('holder')
  // Longer than any of them would wait for the answer of another.
  const small = [1, 2, 3].map((call) => ask(`small ${call}`, { maxTokens: THOUSAND, delayMs: 2_500 }))
  await waits()
  answer('holder')
  for (const said of await Promise.all([holder, ...small])) assert.deepEqual([said.status, said.code], [200, null])
})

test('who is woken by too little keeps its place before those that came later', async () => {
  const contract = makeContract({ models: { allow: [], downgrades: [], usefulOutputTokens: 4 * THOUSAND } })
  sidecar = await startSidecar(limitedTo('0.045', contract))
  const holders = [ask('little', { maxTokens: THOUSAND, isKept: true }), ask('much', { maxTokens: 3 * THOUSAND, isKept: true })]
  await Promise.all([isOut('little'), isOut('much')])
  const first = ask('first', { maxTokens: 3.5 * THOUSAND })
  await waits()
  const second = ask('second', { maxTokens: 3.5 * THOUSAND })
  await waits()
  answer('little')
  await waits()
  answer('much')
  for (const said of await Promise.all([...holders, first, second])) assert.equal(said.status, 200)
  assert.deepEqual(out.slice(2), ['first', 'second'])
})

test('after two seconds it is refused, and told to ask again in one', async () => {
  sidecar = await startSidecar(limitedTo('0.011', makeContract({ models: { allow: [], downgrades: [], usefulOutputTokens: THOUSAND } })))
  const holder = ask('holder', { maxTokens: THOUSAND, isKept: true })
  await isOut('holder')
  const began = performance.now()
  const said = await ask('late', { maxTokens: THOUSAND })
  const tookMs = performance.now() - began
  assert.deepEqual([said.status, said.code, said.headers.get('retry-after')], [503, 'budget_busy', '1'])
  assert.ok(tookMs >= 1_900, `${tookMs} ms`)
  assert.match(await sidecar.metrics(), /^farebox_money_waits_total\{outcome="timeout"\} 1$/m)
  answer('holder')
  assert.equal((await holder).status, 200)
  assert.deepEqual(out, ['holder'])
})

test('a conversation that another user began meanwhile is theirs', async () => {
  sidecar = await startSidecar(limitedTo('0.05', makeContract({ models: { allow: [], downgrades: [], usefulOutputTokens: THOUSAND } })))
  const holder = ask('holder', { maxTokens: 4.5 * THOUSAND, isKept: true })
  await isOut('holder')
  const first = ask('first', { conversation: 'shared', user: 'ann', maxTokens: 1.5 * THOUSAND })
  await waits()
  const second = ask('second', { conversation: 'shared', user: 'bob', maxTokens: 1.5 * THOUSAND })
  await waits()
  answer('holder')
  const answers = await Promise.all([first, second])
  assert.deepEqual(
    answers.map(({ status, code }) => [status, code]),
    [
      [200, null],
      [403, 'identity_rejected'],
    ],
  )
  assert.equal((await holder).status, 200)
  assert.deepEqual(out, ['holder', 'first'])
})

test('a session that another call opened meanwhile is where it goes on: with that money, and without the rungs of the one before', async () => {
  const contract = makeContract({
    caps: { perConversation: '0.05', perUser: { amount: '10.00', period: PERIOD } },
    models: { allow: [], downgrades: [], usefulOutputTokens: THOUSAND },
    ladder: [
      { atPercent: 55, rung: 'RefuseTools' },
      { atPercent: 100, rung: 'EndConversation', end: 'Reset' },
    ],
    sessions: { maxResets: 3 },
    alerts: [50, 60, 100],
  })
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]))
  const spend = startTalk(sidecar, { 'x-farebox-conversation': 'reset', 'x-farebox-user': 'ann', 'x-fake-output-tokens': '3000' })
  await spend.say('Hello.', { body: { max_tokens: 3_100 } }) // 60 %
  await sidecar.idle()
  const inIt = { conversation: 'reset', user: 'ann' }
  const holder = ask('holder', { ...inIt, maxTokens: 1_800, isKept: true })
  await isOut('holder')
  const waiter = ask('waits', { ...inIt, maxTokens: 1_500 })
  await waits()
  const opens = await ask('opens', { ...inIt, maxTokens: 1_100, text: 'word '.repeat(9_000) })
  assert.deepEqual([opens.status, opens.headers.get('x-farebox-percent')], [200, '0'])
  answer('holder')
  const said = await waiter
  assert.deepEqual([said.status, said.headers.get('x-farebox-rung')], [200, 'None'])
  await holder
  await sidecar.idle()
  const { session, rung, alerts } = await sidecar.standing('reset')
  assert.deepEqual([session, rung, alerts], [2, 'None', []])
})

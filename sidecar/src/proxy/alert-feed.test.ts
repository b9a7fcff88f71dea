import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conversationFor } from '../store/steps.testing.ts'
import type { ListedConversation } from '../store/store.ts'
import { AlertFeed } from './alert-feed.ts'

function listing(
  conversations: readonly ListedConversation[],
  loneCalls: readonly ListedConversation[] = [],
): Parameters<AlertFeed['restore']>[0] {
  return { listConversations: ({ areLone }) => Promise.resolve(areLone === true ? loneCalls : conversations) }
}

test('alerts of an earlier run come back, the newest first', async () => {
  const feed = new AlertFeed()
  const newestFirst = [2, 1].map((atMs) => ({ ...conversationFor('A', atMs), alerts: [50, 80], lastTurnAtMs: atMs }))
  await feed.restore(listing(newestFirst), 3, (error) => assert.fail(String(error)))
  assert.deepEqual(
    feed.newestFirst(3).map(({ atMs, percent }) => [atMs, percent]),
    [
      [2, 80],
      [2, 50],
      [1, 80],
    ],
  )
})

test('what was told before they came back is there once, and is the newest', async () => {
  const feed = new AlertFeed()
  const told = { atMs: 3, conversation: 'A', session: 1, tier: 'pro', percent: 80, budget: 'conversation' } as const
  feed.add(told)
  const known = { ...conversationFor('A', 1), alerts: [50, 80], lastTurnAtMs: 1 }
  await feed.restore(listing([known]), 4, (error) => assert.fail(String(error)))
  assert.deepEqual(feed.newestFirst(9), [told, { ...told, atMs: 1, percent: 50 }])
})

test('alerts of the user’s budget come back as such, beside those of the conversation’s own', async () => {
  const feed = new AlertFeed()
  const userAlerts = { period: 'Day1:2026-11-24', percents: [80] }
  const known = { ...conversationFor('A', 1), alerts: [80], userAlerts }
  feed.add({ atMs: 3, conversation: 'A', session: 1, tier: 'pro', percent: 80, budget: 'conversation' })
  await feed.restore(listing([known]), 4, (error) => assert.fail(String(error)))
  assert.deepEqual(
    feed.newestFirst(9).map(({ atMs, budget }) => [atMs, budget]),
    [
      [3, 'conversation'],
      [1, 'user'],
    ],
  )
})

test('alerts that lone calls brought come back among those of conversations', async () => {
  const feed = new AlertFeed()
  const at = (id: string, atMs: number, percent: number) => ({ ...conversationFor(id, atMs), alerts: [percent], lastTurnAtMs: atMs })
  await feed.restore(listing([at('A', 3, 30), at('A', 1, 10)], [at('call-1', 2, 20)]), 4, (error) => assert.fail(String(error)))
  assert.deepEqual(
    feed.newestFirst(9).map(({ percent }) => percent),
    [30, 20, 10],
  )
})

test('lone calls without any crowd none out', async () => {
  const feed = new AlertFeed()
  const calls = Array.from({ length: 1_000 }, (_, index) => ({ ...conversationFor(`call-${index}`, 2), lastTurnAtMs: 2 }))
  await feed.restore(listing([{ ...conversationFor('A', 1), alerts: [90], lastTurnAtMs: 1 }], calls), 4, (error) =>
    assert.fail(String(error)),
  )
  assert.deepEqual(
    feed.newestFirst(9).map(({ percent }) => percent),
    [90],
  )
})

test('a store that goes away as they are read is told of, and no reason not to go on', async () => {
  const feed = new AlertFeed()
  const told: unknown[] = []
  await feed.restore({ listConversations: () => Promise.reject(new Error('away')) }, 3, (error) => told.push(String(error)))
  assert.deepEqual([feed.newestFirst(1), told], [[], ['Error: away']])
})

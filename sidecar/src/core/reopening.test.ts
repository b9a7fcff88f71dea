import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isTakenBack } from './reopening.ts'

const WINDOW_MS = 1_000
const AT_MS = 10_000
const confirmed = { resolution: 'confirmed', resolvedAtMs: AT_MS } as const
const assumed = { resolution: 'assumed', resolvedAtMs: AT_MS } as const
const question = { beganAtMs: AT_MS + 1, nowMs: AT_MS + 5, isOfUser: true, isNewTask: false }

test('a question of the user after a resolution takes it back, within the window and not after it', () => {
  for (const resolved of [confirmed, assumed]) {
    assert.equal(isTakenBack(resolved, question, WINDOW_MS), true)
    assert.equal(isTakenBack(resolved, { ...question, beganAtMs: AT_MS + WINDOW_MS }, WINDOW_MS), true)
    assert.equal(isTakenBack(resolved, { ...question, beganAtMs: AT_MS + WINDOW_MS + 1 }, WINDOW_MS), false)
  }
})

test('a question that is under way when somebody confirms takes nothing back; quiet that was assumed meanwhile was none', () => {
  const underWay = { ...question, beganAtMs: AT_MS - 1 }
  assert.equal(isTakenBack(confirmed, underWay, WINDOW_MS), false)
  assert.equal(isTakenBack(confirmed, { ...question, beganAtMs: AT_MS }, WINDOW_MS), false)
  assert.equal(isTakenBack(assumed, underWay, WINDOW_MS), true)
})

test('what was confirmed while the clock was ahead is taken back by a question after that was set right', () => {
  const later = { ...question, beganAtMs: AT_MS - 900, nowMs: AT_MS - 899 }
  assert.equal(isTakenBack(confirmed, later, WINDOW_MS), true)
  assert.equal(isTakenBack(confirmed, { ...later, isOfUser: false }, WINDOW_MS), false)
})

test('the tool loop after a tool has resolved it goes on, and takes back only what was assumed', () => {
  assert.equal(isTakenBack(confirmed, { ...question, isOfUser: false }, WINDOW_MS), false)
  assert.equal(isTakenBack(assumed, { ...question, isOfUser: false }, WINDOW_MS), true)
})

test('a new task takes nothing back, and neither does a turn of what is not resolved', () => {
  for (const resolved of [confirmed, assumed]) assert.equal(isTakenBack(resolved, { ...question, isNewTask: true }, WINDOW_MS), false)
  assert.equal(isTakenBack({ resolution: 'none', resolvedAtMs: null }, question, WINDOW_MS), false)
  assert.equal(isTakenBack({ resolution: 'reversed', resolvedAtMs: AT_MS }, question, WINDOW_MS), false)
})

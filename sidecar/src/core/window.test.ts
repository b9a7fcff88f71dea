import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { replay } from './edit-log.ts'
import type { ModelRequest } from './request.ts'
import { assistant, call, chatRequest, pairingProblem, result, system, user } from './requests.testing.ts'
import { fitWindow, windowFills } from './window.ts'
import type { WindowResult } from './window.ts'

type Context = Contract['context']
const contextOf = (windowTokens: number | undefined, overflow: Context['overflow'] = 'DropOldest'): Context => ({
  ...(windowTokens === undefined ? {} : { windowTokens }),
  overflow,
  keepRecentTurns: 1,
  summarizeAfterPercent: 80,
})
const HISTORY = [system('s'), user('q1'), assistant('a1'), user('q2'), assistant('a2'), user('q3')]

/** Ten tokens a message. */
function fitted(request: ModelRequest, context: Context, atBoundary = true): WindowResult {
  return fitWindow({
    request,
    shaped: replay(request, []),
    edits: [],
    context,
    atBoundary,
    tokensOf: (messages) => messages.length * 10,
    newId: () => 'd',
  })
}
const contents = (fit: WindowResult): unknown => (fit.status === 'ok' ? fit.shaped.messages.map(({ json }) => json['content']) : fit.status)

test('what fits goes out as it is, and a tier without a window takes everything', () => {
  const request = chatRequest(HISTORY)
  for (const context of [contextOf(60), contextOf(undefined), contextOf(undefined, 'Refuse')]) {
    const fit = fitted(request, context)
    assert.equal(fit.status === 'ok' ? fit.shaped.messages : null, request.messages)
  }
})

test('what does not fit loses its oldest turns, with a label; a summary that is not ready is not waited for', () => {
  for (const overflow of ['DropOldest', 'Summarize'] as const) {
    const fit = fitted(chatRequest(HISTORY), contextOf(50, overflow))
    assert.deepEqual(contents(fit), ['s', '[Earlier conversation left out: turn 1]', 'q2', 'a2', 'q3'])
    assert.deepEqual(fit.status === 'ok' ? fit.shaped.newEdits.map((edit) => edit.kind) : [], ['cut'])
  }
})

test('where the next turn will be estimated as a whole as well, a cut leaves room for it, unless nothing does', () => {
  const cut = (windowTokens: number): unknown =>
    contents(
      fitWindow({
        request: chatRequest(HISTORY),
        shaped: replay(chatRequest(HISTORY), []),
        edits: [],
        context: contextOf(windowTokens),
        atBoundary: true,
        tokensOf: (messages) => messages.length * 10,
        isUncounted: () => true,
        newId: () => 'd',
      }),
    )
  assert.deepEqual(cut(50), ['s', '[Earlier conversation left out: turns 1-2]', 'q3'])
  assert.deepEqual(cut(30), ['s', '[Earlier conversation left out: turns 1-2]', 'q3'])
})

test('a tier may refuse instead, and does so when not even the last turn fits', () => {
  assert.equal(contents(fitted(chatRequest(HISTORY), contextOf(50, 'Refuse'))), 'refuse')
  assert.equal(contents(fitted(chatRequest(HISTORY), contextOf(20))), 'refuse')
})

test('inside a tool loop nothing is cut: the loop ends on what it began with', () => {
  const request = chatRequest([...HISTORY, call({ id: 'a', name: 'f' }), result('a', 'r')])
  const fit = fitted(request, contextOf(50), false)
  assert.equal(fit.status === 'ok' ? fit.shaped.messages : null, request.messages)
  assert.equal(pairingProblem(request.messages), null)
})

test('a summary is prepared from its share of the window on, where the tier asks for summaries', () => {
  assert.equal(windowFills(contextOf(1_000, 'Summarize'), 799), false)
  assert.equal(windowFills(contextOf(1_000, 'Summarize'), 800), true)
  assert.equal(windowFills(contextOf(1_000, 'DropOldest'), 5_000), false)
  assert.equal(windowFills(contextOf(undefined, 'Summarize'), 5_000), false)
})

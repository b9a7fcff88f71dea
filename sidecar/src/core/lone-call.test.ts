import assert from 'node:assert/strict'
import { test } from 'node:test'
import { idOfUnnamed, isLoneCall } from './lone-call.ts'
import { WIRES } from './request.ts'
import { sessionAccount, summariesAccount } from './terms.ts'
import { isSessionAccount, isSoldSession } from './totals.ts'

test('a call that is no talk and that nothing names is known by its id', () => {
  const lone = WIRES.filter((wire) => isLoneCall(idOfUnnamed({ wire }, '1f')))
  assert.deepEqual(lone, ['completions', 'embeddings', 'images', 'speech', 'transcriptions'])
})

test('its account is that of a session, and none that was sold', () => {
  const [talk, lone] = [sessionAccount('1f', 1), sessionAccount(idOfUnnamed({ wire: 'embeddings' }, '1f'), 1)]
  assert.deepEqual([talk, lone].map(isSessionAccount), [true, true])
  assert.deepEqual([talk, lone, summariesAccount('1f')].map(isSoldSession), [true, false, false])
})

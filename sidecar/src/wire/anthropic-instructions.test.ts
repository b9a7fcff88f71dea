import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { JsonObject, Message } from '../core/request.ts'
import { withPlacedInstructions } from './anthropic-instructions.ts'
import { readAnthropicMessage } from './anthropic-message.ts'

/** `u1`: a user's message, `a1`: an answer, `w1`: one that ends in the result of a search, `s1`: instructions, `t1`: for one turn, `d1`: settings alone. */
const CONTENT: Readonly<Record<string, (name: string) => JsonObject>> = {
  u: (name) => ({ role: 'user', content: name }),
  a: (name) => ({ role: 'assistant', content: name }),
  w: (name) => ({ role: 'assistant', content: [{ type: 'web_search_tool_result', tool_use_id: name, content: [] }] }),
  s: (name) => ({ role: 'system', content: name }),
  t: (name) => ({ role: 'system', content: name, clear_at: 'next_user_message' }),
  d: () => ({ role: 'system', content: [], output_config: { effort: 'low' } }),
}

function placed(names: string): string {
  const byMessage = new Map<Message, string>()
  for (const name of names.split(' ')) {
    const json = CONTENT[name[0] ?? '']?.(name)
    const message = json === undefined ? null : readAnthropicMessage(json, Buffer.from(JSON.stringify(json)))
    assert.ok(message !== null, name)
    byMessage.set(message, name)
  }
  return withPlacedInstructions([...byMessage.keys()])
    .map((message) => byMessage.get(message))
    .join(' ')
}

describe('instructions in the middle of a conversation', () => {
  const cases: readonly (readonly [what: string, sent: string, expected: string])[] = [
    ['that stand right stay', 'u1 s1 a1 u2 s2', 'u1 s1 a1 u2 s2'],
    ['that stand right stay, several in a row', 'u1 s1 t1 a1 u2', 'u1 s1 t1 a1 u2'],
    ['behind what the provider’s tools found stay', 'u1 w1 s1 a1 u2', 'u1 w1 s1 a1 u2'],
    ['that a cut left alone go behind the question', 'u1 s1 s2 u2', 'u1 u2 s1 s2'],
    ['that a cut left alone come before those of the question', 'u1 s1 u2 s2 a2 u3', 'u1 u2 s1 s2 a2 u3'],
    ['around an answer that was taken out go behind the next question', 'u1 s1 u2 a2', 'u1 u2 s1 a2'],
    ['behind an answer go behind the next question', 'u1 a1 s1 u2 a2', 'u1 a1 u2 s1 a2'],
    ['between two answers wait for a question', 'u1 a1 s1 a2 u2', 'u1 a1 a2 u2 s1'],
    ['that are for one turn are over with the next question', 'u1 t1 s1 u2', 'u1 u2 s1'],
    ['that change settings alone stand anywhere', 'u1 d1 u2 a2 d2 u3', 'u1 d1 u2 a2 d2 u3'],
    ['that change settings keep their order', 'u1 s1 d1 u2 a2', 'u1 u2 s1 d1 a2'],
    ['are no others’ affair: settings do not part them from the question', 'u1 d1 s1 a1', 'u1 d1 s1 a1'],
    ['before all messages are for the provider to judge', 's1 s2 u1 s3 u2', 's1 s2 u1 u2 s3'],
    ['that nothing can put right stay at the end', 'u1 a1 s1', 'u1 a1 s1'],
  ]
  for (const [what, sent, expected] of cases) test(what, () => assert.equal(placed(sent), expected))
})

test('whatever an edit leaves, instructions keep their order, none is lost, and each stands where it may if a user speaks after it', () => {
  const kind = fc.constantFrom('u', 'a', 'w', 's')
  fc.assert(
    fc.property(fc.array(kind, { maxLength: 12 }), (kinds) => {
      const names = ['u', ...kinds, 'u'].map((letter, index) => `${letter}${index}`)
      const found = placed(names.join(' ')).split(' ')
      for (const letters of [['s'], ['u', 'a', 'w']]) {
        const those = (all: readonly string[]) => all.filter((name) => letters.includes(name[0] ?? ''))
        assert.deepEqual(those(found), those(names))
      }
      const order = found.map((name) => name[0]).join('')
      assert.doesNotMatch(order, /as|s+u/, found.join(' '))
    }),
  )
})

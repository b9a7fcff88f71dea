import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readResponse } from './responses-answer.ts'
import { realResponse, syntheticId, syntheticResponse } from './responses-synthetic.ts'
import { dataIn } from './bodies.testing.ts'

test('an id of ours leads back to the response behind it, whatever that is called', () => {
  const ids = fc.stringMatching(/^resp_[A-Za-z0-9_-]{1,256}$/).filter((id) => !id.startsWith('resp_farebox-'))
  fc.assert(
    fc.property(fc.option(ids), (real) => {
      assert.deepEqual(realResponse(syntheticId(randomUUID(), real)), { id: real })
    }),
  )
})

test('an id that we cannot have made leads nowhere', () => {
  const made = syntheticId(randomUUID(), 'resp_1')
  const hex = (text: string): string => Buffer.from(text).toString('hex')
  for (const id of [
    'resp_1',
    made.toUpperCase(),
    `${made}0`,
    ` ${made}`,
    syntheticId('not-a-uuid', 'resp_1'),
    syntheticId(randomUUID(), 'msg_1'),
    syntheticId(randomUUID(), 'resp_a b'),
    syntheticId(randomUUID(), 'resp_é'),
    syntheticId(randomUUID(), made),
    `${syntheticId(randomUUID(), null)}${hex(`resp_${'a'.repeat(2_000)}`)}`,
    null,
    7,
    undefined,
  ])
    assert.equal(realResponse(id), null, String(id))
})

test('an answer of ours is a whole response that used nothing, plain and streamed alike', () => {
  const answer = { model: 'gpt-4o', text: 'It "ends" here.\n', unique: randomUUID(), previous: 'resp_1', createdS: 1_700_000_000 }
  const plain = syntheticResponse({ ...answer, stream: false })
  assert.equal(plain.contentType, 'application/json')
  const read = readResponse(plain.body)
  assert.equal(read.message?.texts[0]?.text, answer.text)
  assert.deepEqual(
    Object.values(read.facts.usage ?? { none: 1 }).filter((count) => count !== 0),
    [],
  )
  const events = dataIn(syntheticResponse({ ...answer, stream: true }).body.toString()).map(
    (data) => JSON.parse(data) as Record<string, unknown>,
  )
  assert.deepEqual(events.at(-1)?.['response'], JSON.parse(plain.body.toString()))
  assert.deepEqual(
    events.map((event) => event['sequence_number']),
    events.map((_, index) => index),
  )
  assert.deepEqual(
    events.map((event) => event['type']),
    [
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'completed',
    ].map((type) => `response.${type}`),
  )
})

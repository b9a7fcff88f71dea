import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as z from 'zod'
import { boundedMap, IsoDate, patterned, text } from './fields.ts'
import { rules } from './rules.ts'
import { structuralSchema } from './structural.ts'

test('types, bounds, defaults, choices and rules come through', () => {
  const schema = rules(
    z.strictObject({
      name: text(1, 8).describe('A name.'),
      size: z.int().min(1).max(9).default(3),
      kind: z.enum(['A', 'B']).optional(),
      day: IsoDate.optional(),
      code: patterned(/^[A-Z]+$/, 4, 'must be capitals').default('X'),
      parts: z
        .array(z.strictObject({ id: text(0, 4) }))
        .max(2)
        .default([]),
      inner: z.strictObject({ on: z.boolean().default(true) }).prefault({}),
    }),
    { rule: 'self.size > 0', message: 'must be above zero', fieldPath: '.size' },
  )
  assert.deepEqual(structuralSchema(schema, 'spec'), {
    type: 'object',
    required: ['name'],
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 8, description: 'A name.' },
      size: { type: 'integer', format: 'int64', minimum: 1, maximum: 9, default: 3 },
      kind: { type: 'string', enum: ['A', 'B'] },
      day: {
        type: 'string',
        format: 'date',
        maxLength: 10,
        'x-kubernetes-validations': [{ rule: 'self == self', message: 'must be a date in quotes' }],
      },
      code: { type: 'string', pattern: '^[A-Z]+$', maxLength: 4, default: 'X' },
      parts: {
        type: 'array',
        maxItems: 2,
        default: [],
        'x-kubernetes-list-type': 'atomic',
        items: { type: 'object', required: ['id'], properties: { id: { type: 'string', maxLength: 4 } } },
      },
      inner: { type: 'object', default: {}, properties: { on: { type: 'boolean', default: true } } },
    },
    'x-kubernetes-validations': [{ rule: 'self.size > 0', message: 'must be above zero', fieldPath: '.size' }],
  })
})

test('a map has bounded entries of one type', () => {
  const map = boundedMap(text(0, 4), 3, { pattern: /^[a-z]$/, message: 'keys must be letters' })
  assert.deepEqual(structuralSchema(map, 'spec'), {
    type: 'object',
    maxProperties: 3,
    additionalProperties: { type: 'string', maxLength: 4 },
    'x-kubernetes-validations': [{ rule: "self.all(key, key.matches('^[a-z]$'))", message: 'keys must be letters' }],
  })
})

test('what an API server would refuse is refused here, with its path', () => {
  const cases: Record<string, readonly [z.ZodType, RegExp]> = {
    'a text without bound': [z.string(), /^spec\.field must have a maxLength$/],
    'a list without bound': [z.array(z.boolean()), /^spec\.field must have maxItems$/],
    'a float': [z.number().max(3), /^spec\.field must have one type, not "number"$/],
    'a union': [z.union([text(0, 4), z.int()]), /^spec\.field must not use anyOf/],
    'a nullable field': [text(0, 4).nullable(), /^spec\.field must not use nullable/],
    'a literal': [z.literal([1, 'x']), /^spec\.field must/],
    'further fields': [z.looseObject({ a: text(0, 4) }), /^spec\.field must not have both fields and further ones$/],
    'a map without bound': [z.record(z.string(), z.boolean()), /^spec\.field must have maxProperties$/],
    'a map of objects': [
      boundedMap(z.strictObject({ a: z.boolean() }), 2, { pattern: /^a$/, message: 'a' }),
      /^spec\.field must not be a map of objects/,
    ],
    lookahead: [patterned(/^(?=a).*$/, 4, 'a'), /^spec\.field must have a pattern that RE2 can read/],
    'a backreference': [patterned(/^(a)\1$/, 4, 'a'), /^spec\.field must have a pattern that RE2 can read/],
    'another format': [z.email().max(9), /^spec\.field must not have the format "email"$/],
    anything: [z.unknown(), /^spec\.field must have one type/],
  }
  for (const [name, [schema, message]] of Object.entries(cases)) {
    assert.throws(() => structuralSchema(z.strictObject({ field: schema }), 'spec'), { name: 'TypeError', message }, name)
  }
})

test('a whole number is bounded by what a double holds, at the latest', () => {
  assert.deepEqual(structuralSchema(z.int().min(0), 'x'), {
    type: 'integer',
    format: 'int64',
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
  })
})

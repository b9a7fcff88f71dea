import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { JsonObject } from '../core/request.ts'
import { messagesWire } from './anthropic-messages.ts'
import { azureWire } from './azure.ts'
import { CHAT_CALL } from './bodies.testing.ts'
import { completionsWire } from './completions.ts'
import { embeddingsWire } from './embeddings.ts'
import { imagesWire } from './images.ts'
import { chatWire } from './openai-chat.ts'
import { checkedModel, InvalidField, MODEL_LENGTH_MAX } from './request-reading.ts'
import { responsesWire } from './responses-wire.ts'
import type { Wire } from './wire.ts'

test('a model is a text of some length, with no half of a surrogate pair', () => {
  for (const model of ['gpt-4o', 'm\ud83d\ude00', 'm'.repeat(MODEL_LENGTH_MAX)]) assert.equal(checkedModel(model), model)
  for (const model of [undefined, null, 7, '', 'm'.repeat(MODEL_LENGTH_MAX + 1), 'gpt-4o\ud83d', '\ude00'])
    assert.throws(
      () => checkedModel(model),
      (error) => error instanceof InvalidField && error.field === 'model',
    )
})

describe('names that a reader may take for each other', () => {
  const messages = [{ role: 'user', content: 'Hi' }]
  const chat = { model: 'gpt-4o', messages }
  const asked: Readonly<Record<string, { readonly wire: Wire; readonly body: JsonObject; readonly read: readonly string[] }>> = {
    chat: {
      wire: chatWire,
      body: chat,
      read: [
        'n',
        'max_tokens',
        'max_completion_tokens',
        'stream',
        'messages',
        'stream_options',
        'tools',
        'functions',
        'models',
        'service_tier',
        'audio',
      ],
    },
    azure: { wire: azureWire(chatWire), body: chat, read: ['data_sources'] },
    responses: {
      wire: responsesWire,
      body: { model: 'gpt-4o', input: 'Hi' },
      read: [
        'background',
        'conversation',
        'max_output_tokens',
        'max_tool_calls',
        'previous_response_id',
        'prompt',
        'reasoning',
        'truncation',
      ],
    },
    messages: {
      wire: messagesWire,
      body: { model: 'claude-sonnet-4-5', max_tokens: 9, messages },
      read: ['context_management', 'max_tokens', 'mcp_servers', 'messages', 'speed', 'system', 'thread', 'tools'],
    },
    completions: { wire: completionsWire, body: { model: 'm', prompt: 'Hi' }, read: ['best_of', 'max_tokens', 'n', 'prompt', 'stream'] },
    embeddings: { wire: embeddingsWire, body: { model: 'm', input: 'Hi' }, read: ['input'] },
    images: { wire: imagesWire, body: { model: 'gpt-image-1', prompt: 'Hi' }, read: ['n', 'partial_images', 'quality', 'size'] },
  }
  const faultOf = async (wire: Wire, body: JsonObject): Promise<readonly (string | null)[]> => {
    const parsed = await wire.parse(Buffer.from(JSON.stringify(body)), CHAT_CALL)
    return parsed.status === 'invalid' ? [parsed.field, parsed.message] : [parsed.status]
  }
  for (const [name, { wire, body, read }] of Object.entries(asked)) {
    test(`${name}: a field that is read must be spelled as it is known`, async () => {
      for (const field of ['model', ...read]) {
        const { [field]: value = 1, ...others } = body
        for (const spelled of [field.toUpperCase(), `${field[0]?.toUpperCase()}${field.slice(1)}`, field.replace('s', '\u017f')]) {
          if (spelled !== field)
            assert.deepEqual(await faultOf(wire, { ...others, [spelled]: value }), [spelled, `"${spelled}" must be spelled "${field}"`])
        }
      }
    })

    test(`${name}: no field may be there twice, whichever way it is spelled`, async () => {
      for (const [field, again] of [
        ['model', 'Model'],
        ['LEVEL', 'level'],
        ['tools', 'TOOL\u017f'],
        ['to\u212aens', 'TOKENS'],
      ] as const)
        assert.deepEqual(await faultOf(wire, { ...body, [field]: 'm', [again]: 'm' }), [
          again,
          `the field "${again}" must be given once, whichever way it is spelled`,
        ])
    })

    test(`${name}: a field that is not read may be spelled as the app likes`, async () => {
      assert.deepEqual(
        await faultOf(wire, { ...body, maxTokens: 5, extraBody: {}, X: { a: 1, A: 2 }, 'h\u00e9': 1, ['K'.repeat(300)]: 1 }),
        ['ok'],
      )
    })
  }

  test('a name that has capitals itself is known by them', async () => {
    const options = { gateway: { models: ['other'] } }
    assert.deepEqual(await faultOf(chatWire, { ...chat, providerOptions: options }), ['ungoverned'])
    assert.equal((await faultOf(chatWire, { ...chat, provideroptions: options }))[0], 'provideroptions')
  })
})

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { JsonObject, Message } from '../core/request.ts'
import { isOnlyNamed, outputMessages, ownItem, readItems, keptName, textItem } from './responses-item.ts'
import { scanned } from './bodies.testing.ts'

const REASONING = { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'gAAAA' }
const SPOKEN = {
  id: 'msg_1',
  type: 'message',
  role: 'assistant',
  status: 'completed',
  content: [{ type: 'output_text', text: 'Hello.', annotations: [] }],
}
const CALL = { type: 'function_call', id: 'fc_1', call_id: 'call_1', name: 'look_up', arguments: '{"id": 17}' }
const OUTPUT = { type: 'function_call_output', call_id: 'call_1', output: 'In Rotterdam.' }

describe('items become messages', () => {
  test('each by its kind', () => {
    const kinds: readonly (readonly [item: JsonObject, role: Message['role']])[] = [
      [{ role: 'user', content: 'Hi' }, 'user'],
      [{ type: 'message', role: 'developer', content: [{ type: 'input_text', text: 'Be kind.' }] }, 'developer'],
      [SPOKEN, 'assistant'],
      [CALL, 'assistant'],
      [OUTPUT, 'tool'],
      [{ type: 'custom_tool_call', call_id: 'call_2', name: 'run', input: 'ls' }, 'assistant'],
      [{ type: 'custom_tool_call_output', call_id: 'call_2', output: 'a.txt' }, 'tool'],
      [
        { type: 'computer_call_output', call_id: 'call_3', output: { type: 'computer_screenshot', image_url: 'https://x.test/a.png' } },
        'tool',
      ],
      [{ type: 'mcp_approval_response', approval_request_id: 'mcpr_1', approve: true }, 'tool'],
      [{ type: 'web_search_call', id: 'ws_1', status: 'completed' }, 'assistant'],
      [{ type: 'item_reference', id: 'msg_9' }, 'assistant'],
      [{ type: 'compaction', encrypted_content: 'gAAAA' }, 'developer'],
      [{ type: 'thing_of_the_future', id: 'x_1' }, 'assistant'],
      [{ type: 'local_shell_call_output', id: 'call_4', output: 'a.txt' }, 'tool'],
    ]
    const messages = read(kinds.map(([item]) => item))
    assert.deepEqual(
      messages.map((message) => message.role),
      kinds.map(([, role]) => role),
    )
    assert.deepEqual(
      messages.map((message) => message.toolCalls.map((call) => call.name)),
      [[], [], [], ['look_up'], [], ['run'], [], [], [], [], [], [], [], []],
    )
    assert.deepEqual(messages[4]?.answers, ['call_1'])
    assert.deepEqual(messages.at(-1)?.answers, ['call_4'])
    assert.equal(messages[3]?.toolCalls[0]?.input, '{"id": 17}')
  })

  test('of which a question for approval is no call that must be answered, but is known by its id', () => {
    const [asked, given, spoken] = read([
      { type: 'mcp_approval_request', id: 'mcpr_1', name: 'pay', arguments: '{}', server_label: 's' },
      { type: 'mcp_approval_response', id: 'x_1', approval_request_id: 'mcpr_1', approve: true },
      SPOKEN,
    ])
    assert.deepEqual(
      [asked?.approval, given?.approval, spoken?.approval],
      [{ id: 'mcpr_1', isGiven: false }, { id: 'mcpr_1', isGiven: true }, null],
    )
    assert.deepEqual([asked?.toolCalls, given?.answers], [[], []])
  })

  test('of which a reference is a message whose words are not here', () => {
    const messages = read([REASONING, SPOKEN, { type: 'item_reference', id: 'msg_9' }, OUTPUT])
    assert.deepEqual(
      messages.map(({ isOnlyNamed }) => isOnlyNamed),
      [false, true, false],
    )
  })

  test('but what is no item is pointed at', () => {
    for (const broken of [7, null, {}, { role: 'nobody', content: '' }, { type: '' }, { type: 'message' }])
      assert.deepEqual(tryRead([{ role: 'user', content: 'Hi' }, broken]), { status: 'invalid', index: 1 }, JSON.stringify(broken))
  })

  test('and reasoning stays with what was made after it, byte for byte', () => {
    const text = ` [ ${JSON.stringify(REASONING)} ,\n${JSON.stringify(SPOKEN)}, ${JSON.stringify(OUTPUT)}]`
    const [first, second] = readText(text)
    assert.equal(bytesOf(first), `${JSON.stringify(REASONING)} ,\n${JSON.stringify(SPOKEN)}`)
    assert.equal(first?.texts[0]?.text, 'Hello.')
    assert.equal(second?.role, 'tool')
    const changed = first.withTexts(['Bye.'])
    assert.equal(bytesOf(changed), `${JSON.stringify(REASONING)},${JSON.stringify(SPOKEN).replace('Hello.', 'Bye.')}`)
  })

  test('reasoning after which nothing was made stands alone', () => {
    const messages = read([REASONING, { role: 'user', content: 'Hi' }, REASONING])
    assert.deepEqual(
      messages.map((message) => [message.role, message.texts.length, message.others.length]),
      [
        ['assistant', 0, 0],
        ['user', 1, 0],
        ['assistant', 0, 0],
      ],
    )
  })

  test('the same whether they come from a request or were just given as an answer', () => {
    const items = [REASONING, CALL, REASONING, SPOKEN]
    const asked = read(items)
    const given = outputMessages(items)
    assert.deepEqual(given.map(bytesOf), asked.map(bytesOf))
    assert.deepEqual(
      given.map((message) => message.json),
      asked.map((message) => message.json),
    )
  })

  test('a bare text is the message that it stands for', () => {
    assert.equal(
      bytesOf(textItem('Hi "there"', Buffer.from(JSON.stringify('Hi "there"')))),
      JSON.stringify({ role: 'user', content: 'Hi "there"' }),
    )
    assert.deepEqual(ownItem('user', 'Hi').texts, textItem('Hi', Buffer.from('"Hi"')).texts)
  })

  test('and are read again from their bytes once let go of', () => {
    const [message] = read([REASONING, SPOKEN])
    const before = message?.json
    message?.forget?.()
    assert.deepEqual(message?.json, before)
    assert.equal(message?.texts[0]?.text, 'Hello.')
  })
})

describe('texts', () => {
  test('are those of messages and of outputs, with the call that they answer; refusals are told apart', () => {
    const [spoken, output, listed] = read([
      {
        role: 'assistant',
        content: [
          { type: 'output_text', text: 'Well.' },
          { type: 'refusal', refusal: 'No.' },
        ],
      },
      OUTPUT,
      {
        type: 'function_call_output',
        call_id: 'call_2',
        output: [
          { type: 'input_text', text: 'a' },
          { type: 'input_image', image_url: 'https://x.test' },
        ],
      },
    ])
    assert.deepEqual(
      spoken?.texts.map(({ text, kind }) => [text, kind]),
      [
        ['Well.', 'text'],
        ['No.', 'refusal'],
      ],
    )
    assert.deepEqual(output?.texts, [{ text: 'In Rotterdam.', kind: 'text', name: null, answers: 'call_1' }])
    assert.deepEqual(
      listed?.texts.map(({ text, answers }) => [text, answers]),
      [['a', 'call_2']],
    )
  })

  test('can be changed one by one; the rest of the item stays, and an empty message is none', () => {
    const [message] = read([
      {
        role: 'user',
        content: [
          { type: 'input_text', text: 'a' },
          { type: 'input_image', image_url: 'https://x.test' },
          { type: 'input_text', text: 'b' },
        ],
      },
    ])
    assert.deepEqual(message?.withTexts(['c', null])?.json, {
      role: 'user',
      content: [
        { type: 'input_text', text: 'c' },
        { type: 'input_image', image_url: 'https://x.test' },
      ],
    })
    assert.equal(read([{ role: 'user', content: 'a' }])[0]?.withTexts([null]), null)
    assert.equal(read([SPOKEN])[0]?.withTexts([null]), null)
    const [output] = read([OUTPUT])
    const shorter = output?.withTexts(['[left out]'])
    assert.deepEqual(shorter?.answers, ['call_1'])
    assert.deepEqual(output?.reread(bytesOf(shorter))?.json, { ...OUTPUT, output: '[left out]' })
    assert.equal(output?.reread('{"role":"user","content":"x"}'), null)
  })
})

test('media are counted apart, by what they are and how much of the item they take', () => {
  const image = 'iVBORw0KGgoAAAANSUhEUgAAAAoAAAAUCAAAAAA='
  const [message] = read([
    {
      role: 'user',
      content: [
        { type: 'input_image', image_url: `data:image/png;base64,${image}`, detail: 'low' },
        { type: 'input_image', file_id: 'file_1' },
        { type: 'input_file', file_data: 'data:application/pdf;base64,AAAA' },
        { type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } },
        { type: 'input_audio', input_audio: { data: 'https://example.com/a.wav' } },
      ],
    },
  ])
  assert.deepEqual(
    message?.images.map(({ kind, size, detail }) => [kind, size?.width ?? null, detail]),
    [
      ['image', 10, 'low'],
      ['image', null, 'auto'],
      ['file', null, 'auto'],
      ['audio', null, 'auto'],
      ['file', null, 'auto'], // as long as what the link leads to
    ],
  )
  assert.equal(message?.mediaBytes, image.length + 4 + 4)
})

test('what the provider alone can read to its end is known as such', () => {
  for (const item of [
    { type: 'item_reference', id: 'x' },
    { type: 'reasoning', id: 'rs_1', summary: [] },
    { type: 'web_search_call', id: 'ws_1' },
  ])
    assert.ok(isOnlyNamed(item), item.type)
  for (const item of [REASONING, SPOKEN, CALL, OUTPUT, { type: 'compaction', encrypted_content: 'x' }])
    assert.ok(!isOnlyNamed(item), item.type)
})

test('a sealed history is named by its content, whatever id it comes under', () => {
  const name = keptName({ type: 'compaction', id: 'cmp_1', encrypted_content: 'gAAAA' })
  assert.equal(keptName({ type: 'compaction', encrypted_content: 'gAAAA' }), name)
  assert.notEqual(keptName({ type: 'compaction', encrypted_content: 'gAAAB' }), name)
  assert.equal(keptName(SPOKEN), null)
})

test('marks for the cache make no other message', () => {
  const marked = { type: 'input_text', text: 'a', prompt_cache_breakpoint: { mode: 'explicit' } }
  const [one, other] = read([
    { role: 'user', content: [marked] },
    { role: 'user', content: [{ type: 'input_text', text: 'a' }] },
  ])
  assert.equal(Buffer.from(one?.stableBytes ?? []).toString(), Buffer.from(other?.stableBytes ?? []).toString())
  assert.notEqual(bytesOf(one), bytesOf(other))
})

function read(items: readonly unknown[]): readonly Message[] {
  return readText(JSON.stringify(items))
}

function readText(list: string): readonly [Message, ...Message[]] {
  const result = tryReadText(list)
  assert.equal(result.status, 'ok')
  const [first, ...rest] = result.messages
  assert.ok(first !== undefined)
  return [first, ...rest]
}

function tryRead(items: readonly unknown[]): ReturnType<typeof readItems> {
  return tryReadText(JSON.stringify(items))
}

function tryReadText(list: string): ReturnType<typeof readItems> {
  const body = Buffer.from(`{"input":${list}}`)
  return readItems(scanned(body, 'input').fields[0]?.elements ?? [], body)
}

function bytesOf(message: Message | null | undefined): string {
  return Buffer.from(message?.bytes ?? []).toString()
}

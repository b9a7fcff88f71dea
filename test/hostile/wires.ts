/** What each wire format looks like to somebody who means harm: good requests and answers, and how to spoil them. */
import { at } from '../long/json.ts'

export interface Asked {
  readonly model?: string
  readonly stream?: boolean
  /** What the user says; as JSON text. */
  readonly words?: string
  /** More members, as they are to be written: `, "x": 1`. */
  readonly more?: string
}

/** A body that no provider could read, and the field that the refusal must name; null: the body as a whole. */
export type Malformed = readonly [name: string, body: string, field: string | null]

export interface HostileWire {
  readonly name: string
  /** Below the sidecar. */
  path(model: string, stream: boolean): string
  readonly model: string
  request(asked?: Asked): string
  /** How a request for a stream differs from what was sent, where the sidecar asks for the usage itself. */
  readonly injects: boolean
  readonly malformed: readonly Malformed[]
  /** The code and the field of a refusal in the provider's own shape. Throws when it is in another. */
  refusal(body: unknown): { readonly code: string; readonly field: string | null }
  /** A plain answer with this usage, as JSON text; null leaves it out. `choices`: how many answers it has. */
  answer(usage: string | null, choices?: number): string
  /** The events of a stream that ends with this usage; null leaves it out everywhere. Empty: the wire has no streams. */
  events(usage: string | null): readonly string[]
  /** An honest usage, as JSON text. */
  usage(input: string, output: string): string
  /** One whose parts are more than their whole. */
  readonly overfull: string
  /** One that says as much as is believed of any. */
  readonly largest: string
  /** An error in the middle of a stream. */
  readonly errorEvent: string
}

/** With characters of every size, so that a cut may fall inside one. */
const PIECES = ['Grüße', ' aus', ' dem', ' 灯台', ', wo', ' das', ' Licht 😀', ' brennt.'] as const
const WORDS = PIECES.join('')
const OUTPUT_TOKENS = 50
/** No call has more of a kind. */
const TOKENS_MAX = 1_000_000_000

const data = (value: object): string => `data: ${JSON.stringify(value)}\n\n`
const event = (type: string, members: object = {}): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...members })}\n\n`
/** `value` with the JSON text `usage` in the place of its member of that name. */
const withUsage = (value: object, name: string, usage: string | null): string => {
  const text = JSON.stringify(value)
  return usage === null ? text : `${text.slice(0, -1)},"${name}":${usage}}`
}

function textOf(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError(`${JSON.stringify(value)} is no text`)
  return value
}

function openAiRefusal(body: unknown): { readonly code: string; readonly field: string | null } {
  textOf(at(body, 'error', 'message'))
  textOf(at(body, 'error', 'type'))
  const param = at(body, 'error', 'param')
  return { code: textOf(at(body, 'error', 'code')), field: param === null ? null : textOf(param) }
}

/** What no wire takes, whatever its fields. `nested` names where the user's words stand. */
function spoiled(good: string, nested: string): readonly Malformed[] {
  return [
    ['nothing', '', null],
    ['half a body', good.slice(0, good.length / 2), null],
    ['text after it', `${good} x`, null],
    ['a list', `[${good}]`, null],
    ['a text', JSON.stringify(good), null],
    ['null', 'null', null],
    ['a number', '17', null],
    ['broken UTF-16', good.replace('Hello', '\\ud83'), null],
    ['a control character in a text', good.replace('Hello', 'He\u0000llo'), null],
    ['lists within lists', good.replace('"Hello."', `${'['.repeat(2_000)}1${']'.repeat(2_000)}`), nested],
  ]
}

function chatWire(name: string, path: (model: string) => string): HostileWire {
  const model = 'gpt-4o'
  const request = ({ model: asked = model, stream = false, words = '"Hello."', more = '' }: Asked = {}): string =>
    `{ "model" : ${JSON.stringify(asked)}, "max_completion_tokens":${OUTPUT_TOKENS}, "messages":[ {"role":"user", "content" : ${words}} ]${stream ? ', "stream": true' : ''}${more}}`
  const chunk = (delta: object, finish: string | null = null): object => ({
    id: 'c1',
    object: 'chat.completion.chunk',
    created: 1,
    model,
    choices: [{ index: 0, delta, finish_reason: finish }],
  })
  return {
    name,
    path,
    model,
    request,
    injects: true,
    malformed: [
      ...spoiled(request(), 'messages[0]'),
      ['no model', '{"messages":[{"role":"user","content":"x"}]}', 'model'],
      ['a model that is a number', request().replace('"gpt-4o"', '4'), 'model'],
      ['no messages', '{"model":"gpt-4o"}', 'messages'],
      ['messages that are none', '{"model":"gpt-4o","messages":[]}', 'messages'],
      ['messages that are a text', '{"model":"gpt-4o","messages":"x"}', 'messages'],
      ['a message that is a number', '{"model":"gpt-4o","messages":[1]}', 'messages[0]'],
      ['an unknown role', '{"model":"gpt-4o","messages":[{"role":"user"},{"role":"boss"}]}', 'messages[1]'],
      ['a limit that is a text', request().replace(':50', ':"50"'), 'max_completion_tokens'],
      ['a negative limit', request().replace(':50', ':-5'), 'max_completion_tokens'],
      ['a limit of 1e30', request().replace(':50', ':1e30'), 'max_completion_tokens'],
      ['a broken limit', request().replace(':50', ':1.5'), 'max_completion_tokens'],
      ['n of zero', request({ more: ',"n":0' }), 'n'],
      ['n of a million', request({ more: ',"n":1000000' }), 'n'],
      ['a stream that is a text', request({ more: ',"stream":"true"' }), 'stream'],
      ['stream options that are a list', request({ more: ',"stream":true,"stream_options":[]' }), 'stream_options'],
      ['tools that are an object', request({ more: ',"tools":{}' }), 'tools'],
      ['a field twice', request({ more: ',"model":"gpt-4o-mini"' }), 'model'],
    ],
    refusal: openAiRefusal,
    answer: (usage, choices = 1) =>
      withUsage(
        {
          id: 'c1',
          object: 'chat.completion',
          created: 1,
          model,
          choices: Array.from({ length: choices }, (_, index) => ({
            index,
            message: { role: 'assistant', content: WORDS },
            finish_reason: 'stop',
          })),
        },
        'usage',
        usage,
      ),
    events: (usage) => [
      data(chunk({ role: 'assistant', content: '' })),
      ...PIECES.map((content) => data(chunk({ content }))),
      data(chunk({}, 'stop')),
      ...(usage === null
        ? []
        : [`data: ${withUsage({ id: 'c1', object: 'chat.completion.chunk', created: 1, model, choices: [] }, 'usage', usage)}\n\n`]),
      'data: [DONE]\n\n',
    ],
    usage: (input, output) => `{"prompt_tokens":${input},"completion_tokens":${output}}`,
    overfull: '{"prompt_tokens":9,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":900}}',
    largest: '{"prompt_tokens":1000000000,"completion_tokens":1000000000,"web_search_requests":1000000000}',
    errorEvent: data({ error: { message: 'The server had an error.', type: 'server_error', code: null } }),
  }
}

/** The path names what is asked: a body without a model is a good one. */
function azureWire(): HostileWire {
  const chat = chatWire('Azure OpenAI', (model) => `/azure/openai/deployments/${model}/chat/completions?api-version=2024-10-21`)
  return { ...chat, malformed: chat.malformed.filter(([name]) => name !== 'no model') }
}

function completionsWire(): HostileWire {
  const model = 'gpt-3.5-turbo-instruct'
  const chat = chatWire('', () => '')
  const request = ({ model: asked = model, stream = false, words = '"Hello."', more = '' }: Asked = {}): string =>
    `{ "model" : ${JSON.stringify(asked)}, "max_tokens":${OUTPUT_TOKENS}, "prompt" : ${words}${stream ? ', "stream": true' : ''}${more}}`
  const chunk = (text: string, finish: string | null = null): object => ({
    id: 'c1',
    object: 'text_completion',
    created: 1,
    model,
    choices: [{ index: 0, text, finish_reason: finish }],
  })
  return {
    ...chat,
    name: 'OpenAI Completions',
    path: () => '/openai/v1/completions',
    model,
    request,
    malformed: [
      ...spoiled(request(), 'prompt[0]'),
      ['no model', '{"prompt":"x"}', 'model'],
      ['a limit that is a text', request().replace(':50', ':"50"'), 'max_tokens'],
      ['n of zero', request({ more: ',"n":0' }), 'n'],
      ['a stream that is a text', request({ more: ',"stream":"true"' }), 'stream'],
    ],
    answer: (usage, choices = 1) =>
      withUsage(
        {
          id: 'c1',
          object: 'text_completion',
          created: 1,
          model,
          choices: Array.from({ length: choices }, (_, index) => ({ index, text: WORDS, finish_reason: 'stop' })),
        },
        'usage',
        usage,
      ),
    events: (usage) => [
      ...PIECES.map((text) => data(chunk(text))),
      data(chunk('', 'stop')),
      ...(usage === null
        ? []
        : [`data: ${withUsage({ id: 'c1', object: 'text_completion', created: 1, model, choices: [] }, 'usage', usage)}\n\n`]),
      'data: [DONE]\n\n',
    ],
  }
}

function embeddingsWire(): HostileWire {
  const model = 'text-embedding-3-small'
  const request = ({ model: asked = model, words = '"Hello."', more = '' }: Asked = {}): string =>
    `{ "model" : ${JSON.stringify(asked)}, "input" : ${words}${more}}`
  return {
    ...chatWire('', () => ''),
    name: 'OpenAI Embeddings',
    path: () => '/openai/v1/embeddings',
    model,
    request,
    injects: false,
    malformed: [
      ...spoiled(request(), 'input[0]'),
      ['no model', '{"input":"x"}', 'model'],
      ['no input', '{"model":"text-embedding-3-small"}', 'input'],
      ['an input of nothing', request({ words: '[]' }), 'input'],
    ],
    answer: (usage) =>
      withUsage({ object: 'list', model, data: [{ object: 'embedding', index: 0, embedding: [0.25, -0.5] }] }, 'usage', usage),
    events: () => [],
    usage: (input) => `{"prompt_tokens":${input},"total_tokens":${input}}`,
    overfull: '{"prompt_tokens":9,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":900}}',
    largest: '{"prompt_tokens":1000000000,"total_tokens":1000000000,"web_search_requests":1000000000}',
    errorEvent: '',
  }
}

function responsesWire(): HostileWire {
  const model = 'gpt-4o'
  const request = ({ model: asked = model, stream = false, words = '"Hello."', more = '' }: Asked = {}): string =>
    `{ "model" : ${JSON.stringify(asked)}, "max_output_tokens":${OUTPUT_TOKENS}, "input":[ {"role":"user", "content" : ${words}} ]${stream ? ', "stream": true' : ''}${more}}`
  const part = (text: string): object => ({ type: 'output_text', text, annotations: [], logprobs: [] })
  const item = (text: string, status: string): object => ({
    id: 'msg_1',
    type: 'message',
    status,
    role: 'assistant',
    content: [part(text)],
  })
  const response = (status: string, output: readonly object[]): object => ({
    id: 'resp_1',
    object: 'response',
    created_at: 1,
    model,
    status,
    error: null,
    incomplete_details: null,
    output,
  })
  const place = { item_id: 'msg_1', output_index: 0, content_index: 0 }
  return {
    name: 'OpenAI Responses',
    path: () => '/openai/v1/responses',
    model,
    request,
    injects: false,
    malformed: [
      ...spoiled(request(), 'input[0]'),
      ['no model', '{"input":"x"}', 'model'],
      ['an input that is a number', '{"model":"gpt-4o","input":7}', 'input'],
      ['an input of objects that are none', '{"model":"gpt-4o","input":[7]}', 'input[0]'],
      ['an unknown role', '{"model":"gpt-4o","input":[{"role":"user","content":"x"},{"role":"boss","content":"x"}]}', 'input[1]'],
      ['a limit that is a text', request().replace(':50', ':"50"'), 'max_output_tokens'],
      ['a negative limit', request().replace(':50', ':-5'), 'max_output_tokens'],
      ['a limit of 1e30', request().replace(':50', ':1e30'), 'max_output_tokens'],
      ['a bound of tool calls that is a text', request({ more: ',"max_tool_calls":"3"' }), 'max_tool_calls'],
      ['a stream that is a text', request({ more: ',"stream":"true"' }), 'stream'],
      ['tools that are an object', request({ more: ',"tools":{}' }), 'tools'],
      ['a field twice', request({ more: ',"model":"gpt-4o-mini"' }), 'model'],
    ],
    refusal: openAiRefusal,
    answer: (usage, choices = 1) =>
      withUsage(
        response(
          'completed',
          Array.from({ length: choices }, () => item(WORDS, 'completed')),
        ),
        'usage',
        usage,
      ),
    events: (usage) => {
      const list = [
        { type: 'response.created', response: response('in_progress', []) },
        { type: 'response.output_item.added', output_index: 0, item: { ...item('', 'in_progress'), content: [] } },
        { type: 'response.content_part.added', ...place, part: part('') },
        ...PIECES.map((delta) => ({ type: 'response.output_text.delta', ...place, delta, logprobs: [] })),
        { type: 'response.output_text.done', ...place, text: WORDS, logprobs: [] },
        { type: 'response.content_part.done', ...place, part: part(WORDS) },
        { type: 'response.output_item.done', output_index: 0, item: item(WORDS, 'completed') },
      ].map(({ type, ...each }, sequence) => event(type, { ...each, sequence_number: sequence }))
      const last = withUsage(response('completed', [item(WORDS, 'completed')]), 'usage', usage)
      return [
        ...list,
        `event: response.completed\ndata: {"type":"response.completed","sequence_number":${list.length},"response":${last}}\n\n`,
      ]
    },
    usage: (input, output) => `{"input_tokens":${input},"output_tokens":${output}}`,
    overfull: '{"input_tokens":9,"output_tokens":12,"input_tokens_details":{"cached_tokens":900}}',
    largest: '{"input_tokens":1000000000,"output_tokens":1000000000}',
    errorEvent: event('error', { code: 'server_error', message: 'The server had an error.', param: null, sequence_number: 9 }),
  }
}

function messagesWire(): HostileWire {
  const model = 'claude-sonnet-4-5'
  const request = ({ model: asked = model, stream = false, words = '"Hello."', more = '' }: Asked = {}): string =>
    `{ "model" : ${JSON.stringify(asked)}, "max_tokens":${OUTPUT_TOKENS}, "messages":[ {"role":"user", "content" : ${words}} ]${stream ? ', "stream": true' : ''}${more}}`
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model, stop_sequence: null }
  return {
    name: 'Anthropic Messages',
    path: () => '/anthropic/v1/messages',
    model,
    request,
    injects: false,
    malformed: [
      ...spoiled(request(), 'messages[0]'),
      ['no model', '{"max_tokens":5,"messages":[{"role":"user","content":"x"}]}', 'model'],
      ['no messages', '{"model":"claude-sonnet-4-5","max_tokens":5}', 'messages'],
      ['no limit', '{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"x"}]}', 'max_tokens'],
      ['a message that is a number', request().replace('[ {', '[ 1, {'), 'messages[0]'],
      ['an unknown role', request().replace('"user"', '"boss"'), 'messages[0]'],
      ['a limit that is a text', request().replace(':50', ':"50"'), 'max_tokens'],
      ['a negative limit', request().replace(':50', ':-5'), 'max_tokens'],
      ['a limit of 1e30', request().replace(':50', ':1e30'), 'max_tokens'],
      ['a stream that is a text', request({ more: ',"stream":"true"' }), 'stream'],
      ['tools that are an object', request({ more: ',"tools":{}' }), 'tools'],
      ['a field twice', request({ more: ',"model":"claude-haiku-4-5"' }), 'model'],
    ],
    refusal(body) {
      if (at(body, 'type') !== 'error') throw new TypeError(`${JSON.stringify(body)} is no error`)
      textOf(at(body, 'error', 'type'))
      textOf(at(body, 'error', 'message'))
      textOf(at(body, 'request_id'))
      const param = at(body, 'error', 'details', 'param')
      return { code: textOf(at(body, 'error', 'details', 'error_code')), field: param === undefined ? null : textOf(param) }
    },
    answer: (usage, choices = 1) =>
      withUsage(
        { ...message, stop_reason: 'end_turn', content: Array.from({ length: choices }, () => ({ type: 'text', text: WORDS })) },
        'usage',
        usage,
      ),
    events: (usage) => [
      event('message_start', {
        message: {
          ...message,
          content: [],
          stop_reason: null,
          ...(usage === null ? {} : { usage: { input_tokens: 9, output_tokens: 1 } }),
        },
      }),
      event('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }),
      event('ping'),
      ...PIECES.map((text) => event('content_block_delta', { index: 0, delta: { type: 'text_delta', text } })),
      event('content_block_stop', { index: 0 }),
      `event: message_delta\ndata: ${withUsage({ type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null } }, 'usage', usage)}\n\n`,
      event('message_stop'),
    ],
    usage: (input, output) => `{"input_tokens":${input},"output_tokens":${output}}`,
    overfull: '{"input_tokens":9,"output_tokens":12,"cache_creation_input_tokens":3,"cache_creation":{"ephemeral_5m_input_tokens":900}}',
    largest: JSON.stringify({
      input_tokens: 9,
      output_tokens: 12,
      server_tool_use: { web_search_requests: TOKENS_MAX },
      iterations: Array.from({ length: 10_000 }, () => ({
        type: 'message',
        input_tokens: TOKENS_MAX,
        output_tokens: TOKENS_MAX,
        cache_read_input_tokens: TOKENS_MAX,
        cache_creation_input_tokens: TOKENS_MAX,
      })),
    }),
    errorEvent: event('error', { error: { type: 'overloaded_error', message: 'Overloaded' } }),
  }
}

function geminiWire(): HostileWire {
  const model = 'gemini-2.5-flash'
  const request = ({ words = '"Hello."', more = '' }: Asked = {}): string =>
    `{ "contents":[ {"role":"user", "parts" : [{ "text": ${words}}]} ], "generationConfig":{ "maxOutputTokens":${OUTPUT_TOKENS} }${more}}`
  const chunk = (text: string, end: object = {}): object => ({
    candidates: [{ content: { parts: [{ text }], role: 'model' }, index: 0, ...end }],
    modelVersion: model,
    responseId: 'r1',
  })
  return {
    name: 'Gemini',
    path: (asked, stream) =>
      `/gemini/v1beta/models/${encodeURIComponent(asked)}:${stream ? 'streamGenerateContent?alt=sse' : 'generateContent'}`,
    model,
    request,
    injects: false,
    malformed: [
      ...spoiled(request(), 'contents[0]'),
      ['no contents', '{"generationConfig":{}}', 'contents'],
      ['contents that are a number', '{"contents":7}', 'contents'],
      ['a content that is a number', request().replace('[ {', '[ 1, {'), 'contents[0]'],
      ['an unknown role', request().replace('"user"', '"boss"'), 'contents[0].role'],
      ['a config that is a list', request().replace(/"generationConfig":\{[^}]*\}/, '"generationConfig":[]'), 'generationConfig'],
      ['a limit that is a word', request().replace(':50', ':"many"'), 'generationConfig.maxOutputTokens'],
      ['a negative limit', request().replace(':50', ':-5'), 'generationConfig.maxOutputTokens'],
      ['a limit of 1e30', request().replace(':50', ':1e30'), 'generationConfig.maxOutputTokens'],
      ['no answers', request().replace(':50', ':50,"candidateCount":0'), 'generationConfig.candidateCount'],
      ['a field twice, in two spellings', request({ more: ',"generation_config":{}' }), 'generationConfig'],
    ],
    refusal(body) {
      if (typeof at(body, 'error', 'code') !== 'number') throw new TypeError(`${JSON.stringify(body)} is no status`)
      textOf(at(body, 'error', 'message'))
      textOf(at(body, 'error', 'status'))
      const param = at(body, 'error', 'details', 0, 'metadata', 'param')
      return { code: textOf(at(body, 'error', 'details', 0, 'reason')).toLowerCase(), field: param === undefined ? null : textOf(param) }
    },
    answer: (usage, choices = 1) =>
      withUsage(
        {
          candidates: Array.from({ length: choices }, (_, index) => ({
            content: { parts: [{ text: WORDS }], role: 'model' },
            finishReason: 'STOP',
            index,
          })),
          modelVersion: model,
          responseId: 'r1',
        },
        'usageMetadata',
        usage,
      ),
    events: (usage) => [
      ...PIECES.map((text) => data(chunk(text)).replaceAll('\n', '\r\n')),
      `data: ${withUsage(chunk('', { finishReason: 'STOP' }), 'usageMetadata', usage)}\r\n\r\n`,
    ],
    usage: (input, output) => `{"promptTokenCount":${input},"candidatesTokenCount":${output}}`,
    overfull: '{"promptTokenCount":9,"candidatesTokenCount":12,"cachedContentTokenCount":900}',
    largest: '{"promptTokenCount":1000000000,"candidatesTokenCount":1000000000,"thoughtsTokenCount":1000000000}',
    errorEvent: `data: ${JSON.stringify({ error: { code: 500, message: 'An internal error has occurred.', status: 'INTERNAL' } })}\r\n\r\n`,
  }
}

export const WIRES: readonly HostileWire[] = [
  chatWire('OpenAI Chat', () => '/openai/v1/chat/completions'),
  azureWire(),
  responsesWire(),
  messagesWire(),
  geminiWire(),
  completionsWire(),
  embeddingsWire(),
]

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { answeredDigests, callDigests, chainDigests, chainRoot, digestsWithAnswer, extendChain, loopQuestion } from './chain.ts'
import { KeyedHash } from './keyed-hash.ts'
import { inlineNotice } from './notice-frame.ts'
import type { JsonObject } from './request.ts'
import { assistant, call, conversations, message, recordedConversations, requestsOf, result, system, user } from './requests.testing.ts'
import { atOnce } from './slices.ts'
import { takesLessThan } from './work.testing.ts'

const key = new KeyedHash(Buffer.from('a secret of this test, long enough'))
const digestsOf = (...of: Parameters<typeof chainDigests>): string[] => atOnce(chainDigests(...of))
const chain = (messages: readonly JsonObject[], scope = 'shop/plus/'): string[] => digestsOf(messages.map(message), key, scope)
const last = (messages: readonly JsonObject[]): string | undefined => chain(messages).at(-1)

test('a history that grows keeps the digests of its prefixes, and the answer extends them', () => {
  fc.assert(
    fc.property(conversations(), (messages) => {
      const whole = chain(messages)
      for (const request of requestsOf(messages)) {
        const prefix = digestsOf(request.messages, key, 'shop/plus/')
        assert.deepEqual(whole.slice(0, prefix.length), prefix)
        const answer = messages[request.messages.length]
        if (answer !== undefined)
          assert.equal(extendChain(prefix.at(-1) ?? chainRoot(key, 'shop/plus/'), message(answer), key), whole[prefix.length])
      }
    }),
    { numRuns: 30 },
  )
})

test('what apps do to a history on its way back does not matter', () => {
  const history = [
    user('When does it leave?'),
    { ...call({ id: 'c1', name: 'times' }) },
    result('c1', '{"at": 9}'),
    assistant('At nine.\n\nAnything else?'),
    user('No'),
  ]
  const returned: JsonObject[] = [
    system('It is 12:03.'),
    user([{ type: 'text', text: ' When does\tit leave? ' }]),
    {
      role: 'assistant',
      content: '',
      refusal: null,
      annotations: [],
      audio: null,
      tool_calls: [{ index: 0, type: 'function', id: 'c1', function: { arguments: '{ "q": "x" }', name: 'times' } }],
    },
    { ...result('c1', '{"at": 9}'), name: 'times' },
    assistant(`At nine.\r\n\r\nAnything else?${inlineNotice('Note: something changed for you.')}`),
    user('No'),
  ]
  assert.equal(last(returned), last(history))
  const image = { type: 'image_url', image_url: { url: 'https://example.com/a' } }
  assert.equal(last([user([{ cache_control: { type: 'ephemeral' }, ...image }])]), last([user([image])]))
})

test('a link that is signed anew is the same, one to another file is not', () => {
  const asked = (url: string): string | undefined => last([user([{ type: 'image_url', image_url: { url } }])])
  const signed = asked('https://example.com/a?id=7&X-Amz-Date=1&X-Amz-Signature=1')
  assert.equal(asked('https://example.com/a?id=7&X-Amz-Date=2&X-Amz-Signature=2'), signed)
  assert.equal(asked('https://example.com/a?id=7'), signed, 'as links are named that nobody signs')
  assert.notEqual(asked('https://example.com/a?id=8&X-Amz-Date=1&X-Amz-Signature=1'), signed)
})

test('what was said, by whom, with which tools, and in which scope matters', () => {
  const variants: readonly (readonly JsonObject[])[] = [
    [user('a'), assistant('b')],
    [user('a b')],
    [user('ab'), assistant('')],
    [assistant('a'), user('b')],
    [user('a'), call({ id: 'c1', name: 'f' })],
    [user('a'), call({ id: 'c2', name: 'f' })],
    [user('a'), call({ id: 'c1', name: 'g' })],
    [
      user([
        { type: 'text', text: 'a' },
        { type: 'image_url', image_url: { url: 'https://example.com/a' } },
      ]),
    ],
    [
      user([
        { type: 'text', text: 'a' },
        { type: 'image_url', image_url: { url: 'https://example.com/b' } },
      ]),
    ],
    [user('a'), { role: 'assistant', content: null, refusal: 'b' }],
  ]
  const digests = [
    ...variants.map(last),
    chain([user('a'), assistant('b')], 'shop/free/').at(-1),
    digestsOf([message(user('a'))], new KeyedHash(randomBytes(32)), 'shop/plus/').at(-1),
  ]
  assert.equal(new Set(digests).size, digests.length)
  assert.match(digests[0] ?? '', /^[0-9a-f]{32}$/)
})

test('only prefixes with an answer are looked up, so that a common opening shares nothing', () => {
  const look = (messages: readonly JsonObject[]): string[] => digestsWithAnswer(messages.map(message), chain(messages))
  assert.deepEqual(look([system('s'), user('hi')]), [])
  const history = [system('s'), user('hi'), assistant('hello'), user('bye')]
  assert.deepEqual(look(history), chain(history).slice(1, -1), 'nor by all of it, which ends with what is asked')
  assert.deepEqual(look(history.slice(0, -1)), chain(history).slice(1, -1), 'but by all where nothing is asked')
})

test('what an app says before its user has said anything is no answer', () => {
  const look = (messages: readonly JsonObject[]): string[] => digestsWithAnswer(messages.map(message), chain(messages))
  const greeted = [system('s'), assistant('How can I help?'), assistant('Ask me anything.'), user('hi')]
  assert.deepEqual(look(greeted), [])
  const history = [...greeted, assistant('hello'), user('bye')]
  assert.deepEqual(look(history), chain(history).slice(3, -1))
})

test('a long history is looked up by its longest prefixes and its first ones', () => {
  const history = Array.from({ length: 601 }, (_, index) => (index % 2 === 0 ? user(`q${index}`) : assistant(`a${index}`)))
  const digests = chain(history)
  const looked = digestsWithAnswer(history.map(message), digests)
  assert.equal(looked.length, 128)
  assert.deepEqual([looked[0], looked.at(-1)], [digests[1], digests.at(-2)])
})

test('a body of many messages, or of nothing but spaces, costs bounded time', () => {
  const many = Array.from({ length: 40_000 }, () => message(user('')))
  const wide = [message(user(' a'.repeat(1_000_000))), message(assistant('---'.repeat(300_000)))]
  takesLessThan(1_000, () => {
    assert.equal(digestsOf(many, key, 's').length, 2_048)
    digestsOf(wide, key, 's')
  })
})

test('what is long is read in slices, whatever it is made of', () => {
  const rules = ['---', ' ---a', '--- a'].map((unit) => assistant(unit.repeat((12 << 20) / unit.length)))
  const calls = call(...Array.from({ length: 12 }, (_, index) => ({ id: `c${index}`, name: 'f'.repeat(1 << 20) })))
  const history = Array.from({ length: 400 }, (_, index) => user(`${index} ${'word '.repeat(10_000)}`))
  for (const messages of [...rules.map((json) => [json]), [calls], history].map((list) => list.map(message))) {
    let best = Infinity
    for (let attempt = 0; attempt < 4 && best > 50; attempt += 1) best = Math.min(best, longestSliceMs(chainDigests(messages, key, 's')))
    assert.ok(best <= 50, `one slice took ${best} ms`)
  }
})

function longestSliceMs(work: Generator<void, unknown>): number {
  for (let longest = 0; ;) {
    const before = process.cpuUsage()
    const { done } = work.next()
    const { user: userUs, system: systemUs } = process.cpuUsage(before)
    longest = Math.max(longest, (userUs + systemUs) / 1_000)
    if (done === true) return longest
  }
}

test('digests stay the same: those that are stored name conversations that go on', () => {
  const ours = new KeyedHash(Buffer.alloc(32, 7))
  const history = [
    user('When  does it leave?'),
    call({ id: 'c1', name: 'times' }),
    result('c1', '{"at": 9}'),
    { role: 'assistant', content: `At nine.${inlineNotice('Note.')}`, refusal: 'no more' },
    user([{ type: 'image_url', image_url: { url: 'https://example.com/a' } }]),
    assistant(`${'w '.repeat(100_000)}---\n${'q'.repeat(70_000)}`),
  ]
  assert.deepEqual(digestsOf(history.map(message), ours, 'shop/plus/'), [
    '6e13df46ec893b1f81731bd6cd31a176',
    'ed53e4f17f670ac87c65fcad5dda7ff7',
    '820ee21e09999474800dc51565be5ae7',
    '79ea71bf1d69c8e4e1ba1309142e6002',
    '39e1b9623208e52617b961ec58edda56',
    '43e1401b11f542d18d312ee83295bea5',
  ])
})

test('a message may call any number of tools', () => {
  const calls = call(...Array.from({ length: 50_000 }, (_, index) => ({ id: `c${index}`, name: 'f' })))
  assert.equal(chain([user('q'), calls]).length, 2)
})

test('how the arguments of a tool are written does not matter, and keeps the digest of those that are written as usual', () => {
  const called = (written: string): string | undefined =>
    last([user('a'), { role: 'assistant', tool_calls: [{ id: 'c1', type: 'function', function: { name: 'f', arguments: written } }] }])
  for (const [one, other] of [
    ['{"size": 20.0, "at": 1e3}', '{"size":20,"at":1000}'],
    ['{"city": "K\\u00f6ln", "path": "a\\/b"}', '{"city":"K\u00f6ln","path":"a/b"}'],
    ['{\n  "q": "a\\u000ab"\n}', '{"q":"a\\nb"}'],
  ] as const)
    assert.equal(called(one), called(other))
  const values = ['{"q":20}', '{"q":"20"}', '{"q":21}', '{"p":20}', '{"q":20', 'q 20', '[20]']
  assert.equal(new Set(values.map(called)).size, values.length)
  assert.notEqual(called('['.repeat(60_000)), called('['.repeat(59_999)))
  const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`
  assert.equal(called(deep), called(` ${deep}`))
})

describe('the digest of what was asked', () => {
  const scope = 'shop/plus/'
  const examples = [system('s'), user('Example?'), assistant('An example.')]
  const hello = [...examples, user('hello')]
  const hi = message(assistant('hi'))
  const answered = answeredDigests(digestsOf(hello.map(message), key, scope), { messages: [hi], message: hi, begun: null }, key)
  const finds = (digests: readonly string[], history: readonly JsonObject[]): boolean =>
    digestsWithAnswer(history.map(message), chain(history)).some((digest) => digests.includes(digest))

  test('finds nothing when it is asked: others come with the same examples, and ask the same', () => {
    assert.ok(!finds(answered, hello))
    assert.ok(!finds(answered, [...hello, assistant('{')]), 'nor with a beginning of the app’s own')
    assert.ok(finds(answered, [...hello, assistant('hi'), user('bye')]))
  })

  test('finds the conversation in a later turn, of an app that changes answers', () =>
    assert.ok(finds(answered, [...hello, assistant('hi, without what it thought'), user('bye')])))
})

test('any of several answers leads back, with what the app had begun of it', () => {
  const [first, second, third] = [assistant('one'), assistant('two'), call({ id: 'c1', name: 'f' })].map(message)
  assert.ok(first !== undefined && second !== undefined && third !== undefined)
  const foundBy = (begun: JsonObject | null, kept: JsonObject): boolean => {
    const asked = [user('Choose.')]
    const answer = { messages: [first], message: first, alternatives: [second, third], begun: begun === null ? null : message(begun) }
    const found = answeredDigests(chain(begun === null ? asked : [...asked, begun]), answer, key)
    const history = [...asked, kept, user('More.')]
    return digestsWithAnswer(history.map(message), chain(history)).some((digest) => found.includes(digest))
  }
  for (const kept of [assistant('one'), assistant('two'), call({ id: 'c1', name: 'f' })]) assert.ok(foundBy(null, kept))
  assert.ok(!foundBy(null, assistant('three')))
  assert.ok(foundBy(assistant('T'), assistant('Ttwo')))
})

describe('an app that keeps nothing of a tool loop but the words', () => {
  const loop = [user('Where is it?'), call({ id: 'c1', name: 'f' }), result('c1', 'Bern'), call({ id: 'c2', name: 'f' }), result('c2', 'x')]
  const foundAfter = (asked: readonly JsonObject[], answer: JsonObject, kept: readonly JsonObject[]): boolean => {
    const said = message(answer)
    const question = loopQuestion(asked.map(message))
    const found = answeredDigests(chain(asked), { messages: [said], message: said, begun: null, question }, key)
    return digestsWithAnswer(kept.map(message), chain(kept)).some((digest) => found.includes(digest))
  }
  const words = assistant('In Bern.')

  test('is found by those, behind what was said before', () => {
    assert.ok(foundAfter([system('s'), ...loop], words, [user('Where is it?'), words, user('And now?')]))
    const before = [user('hi'), assistant('hello')]
    assert.ok(foundAfter([...before, system('It is noon.'), ...loop], words, [...before, user('Where is it?'), words, user('And now?')]))
  })

  test('but not by its question alone, nor by other words, nor before the loop has ended', () => {
    assert.ok(!foundAfter(loop, words, [user('Where is it?')]))
    assert.ok(!foundAfter(loop, words, [user('Where is it?'), assistant('In Basel.'), user('And now?')]))
    const more = call({ id: 'c3', name: 'f' })
    assert.ok(!foundAfter(loop, more, [user('Where is it?'), more, user('And now?')]))
  })

  test('what ends in no loop of a question has none', () => {
    const spoken = { role: 'user', content: 'Stop.' }
    for (const messages of [[user('hi')], [user('hi'), assistant('hello')], loop.slice(1), [...loop, spoken], [...loop, words], []])
      assert.equal(loopQuestion(messages.map(message)), null)
    assert.equal(loopQuestion([system('s'), ...loop].map(message)), 0, 'instructions do not count')
  })
})

describe('the calls of tools in a history', () => {
  const drawn = (letter: string): string => `call_${letter}1`.padEnd(29, letter)
  const named = (...ids: readonly string[]): string[] =>
    callDigests([call(...ids.map((id) => ({ id, name: 'call_me_back_1_as_soon_as_possible' })))].map(message), 8, key, 's')

  test('name it by the ids that the provider drew', () => {
    const ids = [drawn('a'), `toolu_01${'Ab'.repeat(11)}`, `toolu_bdrk_01${'Ab'.repeat(11)}`, `call_00_${'a1'.repeat(12)}`]
    assert.equal(new Set(ids.flatMap((id) => named(id))).size, ids.length)
    assert.notDeepEqual(named(drawn('a')), callDigests([message(call({ id: drawn('a'), name: 'f' }))], 8, key, 's/u1'))
  })

  test('not by ids that others may have', () => {
    const ids = [
      'call_1',
      'f#0',
      'call_me_back_1_as_soon_as_possible',
      `call_${'0'.repeat(23)}1`,
      `call_${'a'.repeat(24)}`,
      'functions.f:0',
      drawn('\u00e9'),
    ]
    for (const id of ids) assert.deepEqual(named(id), [], id)
  })

  test('are the last ones, the last first', () => {
    const ids = 'abcdefghijkl'.split('').map(drawn)
    const history = ids.flatMap((id) => [call({ id, name: 'f' }), result(id, 'done')]).map(message)
    assert.deepEqual(
      callDigests(history, 8, key, 's'),
      ids
        .slice(-8)
        .toReversed()
        .flatMap((id) => named(id)),
    )
  })
})

test('recorded conversations are told apart', () => {
  const ends = recordedConversations(20).map(({ messages }) => last(messages))
  assert.equal(new Set(ends).size, ends.length)
})

test('an answer is found with what the app had begun of it, however the app keeps the two; never by the beginning alone', () => {
  const scope = 'shop/plus/'
  const asked = [system('s'), user('Order 17 as JSON.')]
  const begun = message(assistant('{'))
  const rest = message(assistant('"order": 17}'))
  const history = digestsOf([...asked.map(message), begun], key, scope)
  const found = answeredDigests(history, { messages: [rest], message: rest, begun }, key)
  const foundBy = (...kept: readonly JsonObject[]): boolean => {
    const messages = [...asked, ...kept, user('And 18.')].map(message)
    return digestsWithAnswer(messages, digestsOf(messages, key, scope)).some((digest) => found.includes(digest))
  }
  assert.ok(foundBy(assistant('{"order": 17}')))
  assert.ok(foundBy(assistant('{'), assistant('"order": 17}')))
  assert.ok(foundBy(assistant('"order": 17}')))
  assert.ok(!foundBy(assistant('{')), 'another conversation that opens alike')
  assert.ok(!foundBy(assistant('{"order": 18}')))
  assert.deepEqual(answeredDigests([], { messages: [rest], message: rest, begun: null }, key), [])
})

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { pickRecordings } from './recordings.ts'
import { parseRecords, readRecords } from './records.ts'

const folder = mkdtempSync(join(tmpdir(), 'farebox-records-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const RETRIEVAL = JSON.stringify({
  id: 'r1',
  system: 'rules',
  turns: [
    { user: 'q1', passages: [{ id: 'p1', text: 'one' }], assistant: 'a1' },
    { user: 'q2', passages: [], assistant: 'a2' },
  ],
})

test('retrieved passages become the result of a tool call, or stand between tags; a turn without any is plain', () => {
  const [tools] = parseRecords(RETRIEVAL, { shape: 'tools', name: 'r' })
  assert.deepEqual(
    tools?.messages.map(({ role }) => role),
    ['system', 'user', 'assistant', 'tool', 'assistant', 'user', 'assistant'],
  )
  assert.deepEqual(
    tools?.tools.map((tool) => tool.function.name),
    ['search_passages'],
  )
  const [tagged] = parseRecords(RETRIEVAL, { shape: 'tagged', name: 'r' })
  assert.deepEqual(
    tagged?.messages.map(({ role }) => role),
    ['system', 'user', 'assistant', 'user', 'assistant'],
  )
  assert.deepEqual(tagged?.tools, [])
  assert.equal(tagged?.messages[1]?.content, '<retrieved_context>\n{"id":"p1","text":"one"}\n</retrieved_context>\n\nq1')
})

test('each tool call has its result by an id of its own', () => {
  const [record] = parseRecords(RETRIEVAL, { shape: 'tools', name: 'r' })
  const calls = record?.messages.flatMap((message) => (message.role === 'assistant' ? message.calls.map(({ id }) => id) : []))
  const results = record?.messages.flatMap((message) => (message.role === 'tool' ? [message.callId] : []))
  assert.deepEqual(results, calls)
})

test('whether a recording was solved is what it says, or unknown', () => {
  const solved = (fields: string) =>
    parseRecords(`{"id":"a","messages":[{"role":"user","content":"hi"}]${fields}}`, { shape: 'tools', name: 'r' })[0]?.solved
  assert.deepEqual([solved(',"reward":1'), solved(',"reward":0'), solved(',"reward":null'), solved('')], [true, false, null, null])
})

test('instructions by their newer name, texts in parts and calls that are null are read, as apps log them', () => {
  const parts = (...texts: readonly string[]) => texts.map((text) => ({ type: 'text', text }))
  const messages = [
    { role: 'developer', content: parts('rules') },
    { role: 'user', content: parts('q1', 'more') },
    { role: 'assistant', content: parts('a1'), tool_calls: null, refusal: null },
    { role: 'tool', content: parts('found'), tool_call_id: 'c1' },
    { role: 'assistant', content: null },
  ]
  const [record] = parseRecords(JSON.stringify({ id: 'a', messages }), { shape: 'tools', name: 'r' })
  assert.deepEqual(record?.messages, [
    { role: 'system', content: 'rules' },
    { role: 'user', content: 'q1\nmore' },
    { role: 'assistant', content: 'a1', calls: [] },
    { role: 'tool', content: 'found', callId: 'c1' },
    { role: 'assistant', content: null, calls: [] },
  ])
})

test('a file is read whatever wrote it: with a byte order mark, zipped under any name; what is no UTF-8 is said to be none', async () => {
  const path = join(folder, 'written.ndjson')
  const idsOf = async (bytes: Uint8Array): Promise<readonly string[]> => {
    writeFileSync(path, bytes)
    return (await readRecords(path, { shape: 'tools' })).map(({ id }) => id)
  }
  const text = `\uFEFF${RETRIEVAL}\r\n`
  assert.deepEqual(await idsOf(Buffer.from(text)), ['r1'])
  assert.deepEqual(await idsOf(gzipSync(text)), ['r1'])
  await assert.rejects(idsOf(Buffer.from(text, 'utf16le')), { message: `${path}: must be UTF-8` })
})

test('a file that cannot be read is told by its path', async () => {
  await assert.rejects(readRecords(join(folder, 'none'), { shape: 'tools' }), {
    message: `${join(folder, 'none')}: no such file or folder`,
  })
  await assert.rejects(readRecords(folder, { shape: 'tools' }), { message: `${folder}: must be a file, not a folder` })
  const broken = join(folder, 'broken.ndjson.gz')
  writeFileSync(broken, 'no gzip')
  await assert.rejects(readRecords(broken, { shape: 'tools' }), { message: `${broken}: must be gzip of at most 256 MiB` })
})

test('a pick is spread over all files and all of each, and never more than asked for', async () => {
  const lines = (name: string, count: number): string =>
    Array.from({ length: count }, (_, index) =>
      JSON.stringify({ id: `${name}${index}`, messages: [{ role: 'user', content: 'hi' }] }),
    ).join('\n')
  const many = mkdtempSync(join(folder, 'many-'))
  writeFileSync(join(many, 'conversations-a.ndjson.gz'), gzipSync(lines('a', 40)))
  writeFileSync(join(many, 'conversations-b.ndjson'), lines('b', 10))
  writeFileSync(join(many, 'other.ndjson'), 'not read')
  const ids = (await pickRecordings(many, 10)).map(({ id }) => id)
  assert.equal(new Set(ids).size, 10)
  assert.equal(ids.filter((id) => id.startsWith('b')).length, 2)
  assert.ok(ids.some((id) => Number(id.slice(1)) >= 30))
  assert.equal((await pickRecordings(many, 1)).length, 1)
  assert.equal((await pickRecordings(many, 1000)).length, 50)
  await assert.rejects(pickRecordings(mkdtempSync(join(folder, 'empty-')), 1), /must hold conversations\*\.ndjson/)
})

test('an id that two files of a folder have is told: their conversations would share a budget', async () => {
  const twice = mkdtempSync(join(folder, 'twice-'))
  const lines = (...ids: readonly string[]): string =>
    ids.map((id) => JSON.stringify({ id, messages: [{ role: 'user', content: 'hi' }] })).join('\n')
  writeFileSync(join(twice, 'conversations-a.ndjson'), lines('1', '2'))
  writeFileSync(join(twice, 'conversations-b.ndjson'), lines('0', '2'))
  const [one, other] = [join(twice, 'conversations-a.ndjson'), join(twice, 'conversations-b.ndjson')]
  const message = `${other}: id: "2" must be there once, and is in ${one} too`
  await assert.rejects(pickRecordings(twice, 100), { message })
  await assert.rejects(pickRecordings(twice, 1), { message }, 'however few are picked')
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { isForm, readForm } from './form.ts'

const TYPE = 'multipart/form-data; boundary=B'
const part = (headers: string, content = 'x'): string => `--B\r\n${headers}\r\n\r\n${content}\r\n`
const field = (name: string, content?: string): string => part(`Content-Disposition: form-data; name="${name}"`, content)
const file = (name: string, content?: string): string =>
  part(`content-disposition: form-data; name="${name}"; filename="a.wav"\r\nContent-Type: audio/wav`, content)
const read = (text: string, type = TYPE): ReturnType<typeof readForm> => readForm(Buffer.from(text, 'latin1'), type)

test('fields are read as text, files as bytes of the body', () => {
  const body = Buffer.from(
    `${file('file', 'a\r\nb\r\n--C')}${field('model', 'whisper-1')}${field('include[]', 'a')}${field('include[]', 'b')}--B--\r\n`,
  )
  const result = readForm(body, TYPE)
  assert.ok(result.status === 'ok')
  assert.deepEqual(
    [...result.form.fields],
    [
      ['model', 'whisper-1'],
      ['include[]', 'b'],
    ],
  )
  assert.deepEqual(
    result.form.texts.map(({ name, bytes }) => [name, bytes.toString()]),
    [
      ['model', 'whisper-1'],
      ['include[]', 'a'],
      ['include[]', 'b'],
    ],
  )
  const [found] = result.form.files
  assert.deepEqual([found?.name, found?.bytes.toString()], ['file', 'a\r\nb\r\n--C'])
  assert.equal(found?.bytes.buffer, body.buffer)
})

test('what the client of the platform writes is read, whatever is in it', () =>
  fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.string({ unit: 'grapheme' }), async (bytes, text) => {
      const form = new FormData()
      form.append('model', text)
      form.append('file', new Blob([new Uint8Array(bytes)]), 'note.wav')
      const response = new Response(form)
      const result = readForm(Buffer.from(await response.arrayBuffer()), response.headers.get('content-type') ?? '')
      assert.ok(result.status === 'ok')
      // The platform writes every line break as CRLF.
      assert.equal(result.form.fields.get('model'), text.replace(/\r\n|\r|\n/g, '\r\n'))
      assert.deepEqual(
        result.form.files.map((each) => [...each.bytes]),
        [[...bytes]],
      )
    }),
  ))

test('a boundary may be quoted, and has its rules', () => {
  assert.equal(
    read('--a b\r\nContent-Disposition: form-data; name="m"\r\n\r\nx\r\n--a b--', 'multipart/form-data; boundary="a b"').status,
    'ok',
  )
  for (const type of [
    'multipart/form-data',
    'multipart/form-data; boundary=',
    `multipart/form-data; boundary=${'a'.repeat(71)}`,
    'multipart/form-data; boundary="a ',
    // Two readers take one of them each.
    'multipart/form-data; boundary=A; boundary=B',
    'multipart/form-data; boundary=A, multipart/form-data; boundary=B',
    'multipart/form-data; boundary=B; boundary*=A',
    'multipart/form-data; boundary =A; boundary=B',
    'multipart/form-data; boundary=B, multipart/mixed',
  ])
    assert.equal(read(`${field('m')}--B--`, type).status, 'invalid', type)
  assert.deepEqual(
    [isForm('Multipart/Form-Data; boundary=b'), isForm('application/json'), isForm('multipart/form-data-x')],
    [true, false, false],
  )
})

// oxfmt-ignore
const faults: readonly [string, string][] = [
  ['nothing', ''],
  ['something before the first boundary', `x\r\n${field('m')}--B--`],
  ['no end', field('m')],
  ['a part that never ends', `--B\r\nContent-Disposition: form-data; name="m"\r\n\r\nx`],
  ['headers that never end', `--B\r\nContent-Disposition: form-data; name="m"`],
  ['no headers', `--B\r\n\r\nx\r\n--B--`],
  ['a part without a name', `${part('Content-Disposition: form-data')}--B--`],
  ['a name without quotes', `${part('Content-Disposition: form-data; name=m')}--B--`],
  ['two names', `${part('Content-Disposition: form-data; name="a"; name="b"')}--B--`],
  ['a name with an escape', `${part('Content-Disposition: form-data; name="a\\"b"')}--B--`],
  ['a name in another alphabet beside it', `${part('Content-Disposition: form-data; name="a"; name*=UTF-8\'\'b')}--B--`],
  ['two dispositions', `${part('Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"')}--B--`],
  ['a folded header', `${part('Content-Disposition: form-data;\r\n name="a"')}--B--`],
  ['an encoding', `${part('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64')}--B--`],
  ['a field twice', `${field('model', 'a')}${field('model', 'b')}--B--`],
  ['a name with a space before its value', `${part('Content-Disposition: form-data; name="a"; name ="b"')}--B--`],
  ['a parameter that nobody knows', `${part('Content-Disposition: form-data; name="a"; size=3')}--B--`],
  ['a file without a name, which is a field to some', `${part('Content-Disposition: form-data; name="n"; filename=""', '10')}--B--`],
  ['a header in a header', `${part('X: y\nContent-Disposition: form-data; name="n"\r\nContent-Disposition: form-data; name="a"')}--B--`],
  ['a boundary after a bare line feed', `${field('a', '\n--B\nContent-Disposition: form-data; name="n"\n\n10')}--B--`],
  ['a boundary after a bare carriage return', `${field('a', 'x\r--B')}--B--`],
  ['a part after the end', `${field('a')}--B--\r\n${field('n', '10')}--B--`],
  ['an end that goes on', `${field('a')}--B--x`],
  ['too many parts', `${Array.from({ length: 257 }, (_, at) => field(`f${at}`)).join('')}--B--`],
  ['endless headers', `${part(`X: ${'y'.repeat(5_000)}\r\nContent-Disposition: form-data; name="a"`)}--B--`],
]
for (const [name, text] of faults) test(`${name} is refused`, () => assert.equal(read(text).status, 'invalid'))

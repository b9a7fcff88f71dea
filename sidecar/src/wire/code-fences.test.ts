import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CodeFences } from './code-fences.ts'

function isOpen(pieces: readonly string[]): boolean {
  const fences = new CodeFences()
  for (const piece of pieces) fences.add(piece)
  return fences.isOpen
}

const OPEN: Readonly<Record<string, string>> = {
  'a fence': '```',
  'of tildes': '~~~',
  'with its language': '```js',
  'with code in it': 'So:\n```js\nlet a',
  'below a paragraph, with three spaces before it': 'So:\n   ```\nlet a',
  'whose closer is shorter': '````\n```\n',
  'whose closer is of the other mark': '```\n~~~\n',
  'whose closer has words behind it': '```\na\n``` and\n',
  'whose closer stands in too far': '```\na\n    ```\n',
  'whose closer has a tab before it': '```\na\n\t```\n',
  'whose closer is half there': '```\na\n``',
  'whose closer is interrupted': '```\na\n`` `',
  'the second one': '```\na\n```\n\n```\nb\n',
  'tildes that have backticks behind them': '~~~ `a`\n',
  'in lines that end as on Windows': 'So:\r\n```js\r\nlet a\r\n',
  'in lines that end as they once did': 'So:\r```js\rlet a',
}
const CLOSED: Readonly<Record<string, string>> = {
  nothing: '',
  words: 'So it is.\n\nOr not.',
  'a closer with nothing behind it': '```\na\n```',
  'a closer with spaces and tabs behind it': '```\na\n``` \t ',
  'a longer closer': '```\na\n`````\n',
  'a closer with three spaces before it': '```\na\n   ```\n',
  tildes: '~~~\na\n~~~~\n',
  'lines that end as on Windows': '```\r\na\r\n```\r\n',
  'an empty block': '```\n```',
  'two marks': '``\na\n',
  'marks within a line': 'So ```\na\n',
  'code within a line': '``` a ```\n',
  'marks that are not in a row': '`` `\na',
  'marks that stand in too far': '    ```\na\n',
  'marks behind a tab': '\t```\na\n',
  'marks in a quote, which ends before the notice': '> ```\n> a\n',
}

for (const [cases, expected] of [
  [OPEN, true],
  [CLOSED, false],
] as const)
  for (const [name, text] of Object.entries(cases))
    test(`${expected ? 'open' : 'not open'}: ${name}`, () => {
      assert.equal(isOpen([text]), expected)
      assert.equal(isOpen(text.split('')), expected, 'in single characters')
    })

test('no cut between two pieces changes what is read', () => {
  const line = fc.array(fc.constantFrom('`', '``', '```', '~~~', ' ', '    ', '\t', 'a', '\n', '\r\n'), { maxLength: 30 })
  fc.assert(fc.property(line, (parts) => isOpen(parts) === isOpen([parts.join('')]) && isOpen(parts) === isOpen(parts.join('').split(''))))
})

/** The rule as the specification says it, line by line of a whole text. */
function isOpenByLines(text: string): boolean {
  let opener: string | null = null
  for (const line of text.split(/\r\n|\n|\r/)) {
    const fence: string | undefined =
      opener === null ? /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})/.exec(line)?.[1] : /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line)?.[1]
    if (fence === undefined) continue
    if (opener === null) opener = fence
    else if (fence.startsWith(opener)) opener = null
  }
  return opener !== null
}

test('a text that comes in pieces is read as its lines are', () => {
  const part = fc.constantFrom('`', '```', '````', '~', '~~~', ' ', '   ', '\t', 'a', '\n', '\n', '\r\n', '\n```', '\n~~~')
  fc.assert(
    fc.property(fc.array(part, { maxLength: 40 }), (parts) => {
      assert.equal(isOpen(parts), isOpenByLines(parts.join('')), JSON.stringify(parts.join('')))
    }),
  )
})

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ERRORS, errorAnswer, modelNotAllowed } from './errors.ts'

const PAGE = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
const ROWS = PAGE.split('\n').flatMap((line) => {
  const cells = line.split('|').map((cell) => cell.trim())
  const code = /^`(\w+)`$/.exec(cells[1] ?? '')?.[1]
  return code === undefined ? [] : [{ code, status: Number(cells[2]), retry: cells[3] ?? '' }]
})

test('the docs page lists exactly the codes of the table, with status and retry', () => {
  const table = Object.entries(ERRORS).map(([code, entry]) => ({
    code,
    status: entry.status,
    retry: 'retryAfterSeconds' in entry ? `${entry.retryAfterSeconds} s` : 'no',
  }))
  assert.deepEqual(
    ROWS.toSorted((a, b) => a.code.localeCompare(b.code)),
    table.toSorted((a, b) => a.code.localeCompare(b.code)),
  )
})

test('no message shows an amount or a phrase that clients parse as a wait', () => {
  for (const [code, { message }] of Object.entries(ERRORS)) {
    assert.doesNotMatch(message, /\$|USD|try again in|\d+ ?s\b/i, code)
    assert.match(message, /[.]$/, code)
  }
})

test('a refusal that a retry cannot change says so, and one that it can says when', () => {
  const hard = errorAnswer({ code: 'conversation_budget_exhausted' }, 'r1', 'openai')
  assert.equal(hard.status, 402)
  assert.equal(headerOf(hard.headers, 'x-should-retry'), 'false')
  assert.equal(headerOf(hard.headers, 'retry-after'), undefined)
  const soft = errorAnswer({ code: 'budget_busy' }, 'r2', 'openai')
  assert.equal(headerOf(soft.headers, 'x-should-retry'), 'true')
  assert.equal(headerOf(soft.headers, 'retry-after'), '1')
  assert.deepEqual(JSON.parse(soft.body.toString()), {
    error: { message: ERRORS.budget_busy.message, type: 'server_error', param: null, code: 'budget_busy' },
  })
})

test('a model that is not let in is named as it was asked for, and no longer than names are', () => {
  const { message, param, model } = modelNotAllowed('gpt4o "new"')
  assert.deepEqual(
    [message, param, model],
    ['The plan of this conversation does not include the model "gpt4o "new"".', 'model', 'gpt4o "new"'],
  )
  const long = modelNotAllowed(`${'x'.repeat(127)}\u{1f600}${'x'.repeat(128)}`)
  assert.equal(long.model, `${'x'.repeat(127)}\ufffd...`, 'cut within a character')
  assert.ok(long.message?.endsWith(`${long.model}".`))
})

function headerOf(headers: readonly string[], name: string): string | undefined {
  const index = headers.indexOf(name)
  return index < 0 ? undefined : headers[index + 1]
}

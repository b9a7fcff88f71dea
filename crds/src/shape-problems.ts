/** Zod's findings, made the words of somebody who writes YAML. */
import * as z from 'zod'
import type { Problem } from './check.ts'
import { coreOf, isRecord, joinPath, pathText, schemaBelow } from './schema-walk.ts'

/** A line for each fault: `object` is what was parsed by `schema`. Of several faults of one field, the first is told. */
export function shapeProblems(issues: readonly z.core.$ZodIssue[], schema: z.ZodType, object: unknown): Problem[] {
  const findings = issues.flatMap((issue) => findingsOf(issue, schema, object))
  // A required field that was misspelt is one fault, not two.
  const meant = new Set(findings.flatMap((finding) => finding.meant ?? []))
  const told = new Set<string>()
  return findings.flatMap(({ field, message }) => {
    if (told.has(field) || (message === REQUIRED && meant.has(field))) return []
    told.add(field)
    return [{ field, message }]
  })
}

interface Finding extends Problem {
  /** Of a field that is unknown: the one that was meant. */
  readonly meant?: string
}

const REQUIRED = 'is required'

/** One issue may name several unknown fields. */
function findingsOf(issue: z.core.$ZodIssue, schema: z.ZodType, object: unknown): Finding[] {
  const field = pathText(issue.path)
  const found = valueAt(object, issue.path)
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => {
        const near = nearest(key, fieldsAt(schema, issue.path))
        return {
          field: joinPath(field, `.${key}`),
          message: `is not a field here${hint(near)}`,
          ...(near === null ? {} : { meant: joinPath(field, `.${near}`) }),
        }
      })
    case 'invalid_type': {
      if (found === undefined) return [{ field, message: REQUIRED }]
      if (isQuotedNumber(issue.expected, found)) return [{ field, message: 'must be a whole number, without quotes' }]
      const wanted = issue.message.startsWith('Invalid input') ? `must be ${typeName(issue.expected)}` : issue.message
      return [{ field, message: `${wanted}; found ${foundName(found)}` }]
    }
    case 'invalid_value': {
      if (found === undefined) return [{ field, message: REQUIRED }]
      const values = issue.values.map(String)
      const choice = values.length === 1 ? `must be ${values[0]}` : `must be one of ${values.join(', ')}`
      return [{ field, message: typeof found === 'string' ? choice + suggestion(found, values) : `${choice}; found ${foundName(found)}` }]
    }
    case 'too_small':
      if (issue.origin === 'string' && Number(issue.minimum) === 1) return [{ field, message: 'must not be empty' }]
      return [{ field, message: `must be at least ${issue.minimum}${unitOf(issue.origin)}` }]
    case 'too_big':
      return [{ field, message: `must be at most ${issue.maximum}${unitOf(issue.origin)}` }]
    default:
      return [{ field, message: issue.message }]
  }
}

/** ` (did you mean x?)` when a word is a slip of the pen away; empty otherwise. */
export function suggestion(word: string, known: readonly string[]): string {
  return hint(nearest(word, known))
}

function hint(near: string | null): string {
  return near === null ? '' : ` (did you mean ${near}?)`
}

function nearest(word: string, known: readonly string[]): string | null {
  const near = known
    .map((name) => ({ name, edits: editsBetween(word.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, edits }) => edits <= Math.max(1, Math.floor(name.length / 3)))
    .toSorted((a, b) => a.edits - b.edits)[0]
  return near?.name ?? null
}

/** Words longer than this are nobody's slip of the pen. */
const WORD_LENGTH_MAX = 64

/** How many letters must be put in, taken out or changed to make one word of the other. */
function editsBetween(a: string, b: string): number {
  if (a.length > WORD_LENGTH_MAX || b.length > WORD_LENGTH_MAX) return Infinity
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [index, letter] of Array.from(a).entries()) {
    const next = [index + 1]
    for (const [column, other] of Array.from(b).entries()) {
      next.push(Math.min((row[column] ?? 0) + (letter === other ? 0 : 1), (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? Infinity
}

function fieldsAt(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at: z.ZodType | null = schema
  for (const key of path) at = at === null ? null : schemaBelow(at, key)
  const core = at === null ? null : coreOf(at)
  return core instanceof z.ZodObject ? Object.keys(core.shape) : []
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a whole number',
  string: 'a text',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
}

function typeName(expected: string): string {
  return TYPE_NAMES[expected] ?? `a ${expected}`
}
function isQuotedNumber(expected: string, found: unknown): boolean {
  return (expected === 'int' || expected === 'number') && typeof found === 'string' && /^[0-9]+$/.test(found)
}
/** What stands where something else was wanted, in words. */
export function foundName(found: unknown): string {
  if (found === null) return 'nothing'
  if (Array.isArray(found)) return 'a list'
  if (typeof found === 'object') return 'a mapping'
  if (typeof found === 'string') return 'a text'
  return typeof found === 'number' ? `the number ${found}` : `the ${typeof found} ${JSON.stringify(found)}`
}
function unitOf(origin: string): string {
  return origin === 'string' ? ' characters long' : origin === 'array' ? ' items long' : ''
}

function valueAt(object: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, part) => {
    if (Array.isArray(value)) return typeof part === 'number' ? value[part] : undefined
    return isRecord(value) ? value[String(part)] : undefined
  }, object)
}

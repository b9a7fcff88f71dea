/** Files of manifests -> a snapshot, or what is wrong with them: by file, line and field. */
import { checkObject, isOurs, metadataProblems } from '@farebox/crds/check.ts'
import type { FareboxObject } from '@farebox/crds/check.ts'
import { isRecord } from '@farebox/crds/schema-walk.ts'
import { foundName } from '@farebox/crds/shape-problems.ts'
import { YAMLException } from 'js-yaml'
import { objectKey } from './compile.ts'
import type { Snapshot } from './compile.ts'
import { fieldLines, lineOf } from './yaml-lines.ts'
import type { FieldLines } from './yaml-lines.ts'
import { readDocuments, trapsOf } from './yaml-traps.ts'
import type { Reading, YamlTrap } from './yaml-traps.ts'

export interface ManifestFile {
  readonly path: string
  readonly text: string
}

/** A problem for the author of a file. `field` is empty when the whole document is meant. */
export interface ManifestProblem {
  readonly file: string
  readonly line: number
  readonly field: string
  readonly message: string
}

export interface Manifests {
  /** Whole only when there are no problems. */
  readonly snapshot: Snapshot
  readonly problems: readonly ManifestProblem[]
  /** Where a field of an object stands: `PricingTier/pro`, `spec.currency`. Null for objects that are not in the files. */
  readonly locate: (object: string, field: string) => { readonly file: string; readonly line: number } | null
}

/** Where an object stands: in a file, and below `path` in its document, which is empty but in a List. */
interface Place {
  readonly file: string
  readonly lines: FieldLines
  readonly path: string
}

/** An object of ours has fewer parts, however often an alias repeats them. */
const PARTS_MAX = 100_000
const DEPTH_MAX = 64

/**
 * Objects of other API groups are left alone: a folder may hold Deployments as well. The items of a List are objects of the file.
 * Problems come in order of file and line, one for each field.
 */
export function readManifests(files: readonly ManifestFile[]): Manifests {
  const problems: ManifestProblem[] = []
  const objects: FareboxObject[] = []
  const places = new Map<string, Place>()
  for (const file of files) {
    const wrong: ManifestProblem[] = []
    for (const { reading, place } of objectsOf(file, wrong)) {
      const at = (field: string, message: string): void => void wrong.push({ file: file.path, line: lineIn(place, field), field, message })
      const checked = checkObject(reading.here)
      const metadata = metadataProblems(reading.here)
      const traps = trapsOf(reading)
      for (const { field, message } of toldOnce([...metadata, ...(checked.status === 'invalid' ? checked.problems : [])], traps))
        at(field, message)
      if (checked.status === 'invalid' || metadata.length > 0) continue
      const key = objectKey(checked.value)
      const earlier = places.get(key)
      if (earlier !== undefined) {
        at('metadata.name', `${key} is declared twice: first in ${earlier.file}:${lineIn(earlier, 'metadata.name')}`)
        continue
      }
      places.set(key, place)
      objects.push(checked.value)
    }
    problems.push(...wrong.toSorted((a, b) => a.line - b.line))
  }
  if (objects.length === 0 && problems.length === 0)
    problems.push({ file: files[0]?.path ?? '.', line: 1, field: '', message: 'no PricingTier, ConversationBudget or PriceBook is here' })
  return {
    snapshot: {
      tiers: objects.filter((object) => object.kind === 'PricingTier'),
      budgets: objects.filter((object) => object.kind === 'ConversationBudget'),
      priceBooks: objects.filter((object) => object.kind === 'PriceBook'),
    },
    problems,
    locate(object, field) {
      const place = places.get(object)
      return place === undefined ? null : { file: place.file, line: lineIn(place, field) }
    },
  }
}

interface Found {
  readonly reading: Reading
  readonly place: Place
}

/** The objects of ours in a file. Where some stand as none can (`kubectl` refuses such a file), that is a problem: else they would be left out without a word. */
function objectsOf({ path: file, text: written }: ManifestFile, problems: ManifestProblem[]): readonly Found[] {
  const text = withoutInnerMarks(written)
  try {
    const lines = fieldLines(text)
    return readDocuments(text).flatMap((reading, index) => {
      const place: Place = { file, lines: lines[index] ?? new Map(), path: '' }
      const tell: Tell = (at, field, message) => void problems.push({ file, line: lineIn(at, field), field: fieldIn(at, field), message })
      if (!isOurs(reading.here) && !isList(reading.here) && !(Array.isArray(reading.here) && holdsOurs(reading.here))) return []
      if (isBounded(reading.here)) return unlisted({ reading, place }, tell).filter((found) => isOurs(found.reading.here))
      tell(place, '', `must have fewer than ${PARTS_MAX} parts, those that an alias repeats included, and no alias of itself`)
      return []
    })
  } catch (error) {
    problems.push(yamlProblem(file, text, error))
    return []
  }
}

/**
 * A byte order mark is no part of the document that it begins (https://yaml.org/spec/1.2.2/#52-character-encodings), but our parser knows it
 * only where a text begins: files of Windows that were put together have more.
 */
function withoutInnerMarks(text: string): string {
  return text.replace(/^(---[^\n]*\n)\uFEFF/gm, '$1')
}

type Tell = (place: Place, field: string, message: string) => void

/** What a List holds, those within it too; or the object itself. */
function unlisted({ reading, place }: Found, tell: Tell): readonly Found[] {
  const { here } = reading
  if (Array.isArray(here)) {
    tell(place, '', 'must be a mapping; found a list: put "---" between objects, or make them the items of a List')
    return []
  }
  if (!isList(here)) return [{ reading, place }]
  const { items } = here
  if (!Array.isArray(items)) {
    if (isOurs(here) || holdsOurs(items)) tell(place, 'items', `must be a list; found ${foundName(items)}`)
    return []
  }
  const isOfOurs = isOurs(here) || items.some(isOurs)
  return items.flatMap((item: unknown, index) => {
    const within: Place = { ...place, path: fieldIn(place, `items[${index}]`) }
    if (!isRecord(item)) {
      if (isOfOurs || holdsOurs(item)) tell(within, '', `must be a mapping; found ${foundName(item)}`)
      return []
    }
    const part = { here: item, kubectl: itemsOf(reading.kubectl)?.[index], yaml11: itemsOf(reading.yaml11)?.[index] }
    return unlisted({ reading: part, place: within }, tell)
  })
}

/** A `List`, or a `PricingTierList`. */
function isList(value: unknown): value is { readonly kind: string; readonly items: unknown } {
  return isRecord(value) && typeof value['kind'] === 'string' && value['kind'].endsWith('List') && Object.hasOwn(value, 'items')
}

function itemsOf(value: unknown): readonly unknown[] | null {
  return isList(value) && Array.isArray(value.items) ? value.items : null
}

/** An object of ours, or a list or a mapping of some. */
function holdsOurs(value: unknown): boolean {
  return isOurs(value) || (typeof value === 'object' && value !== null && Object.values(value).some(isOurs))
}

/** What is wrong with a field for its shape is told alone, but for a number that only kubectl takes for one: that says what to write. */
function toldOnce(
  problems: readonly { readonly field: string; readonly message: string }[],
  traps: readonly YamlTrap[],
): readonly { readonly field: string; readonly message: string }[] {
  const misshapen = new Set(problems.map(({ field }) => field))
  const numbers = new Map(traps.flatMap(({ field, number }) => (number === null ? [] : [[field, number] as const])))
  return [
    ...problems.map(({ field, message }) => {
      const number = numbers.get(field)
      return { field, message: number === undefined ? message : `kubectl reads this as ${number}: write it so` }
    }),
    ...traps.filter(({ field }) => !misshapen.has(field)),
  ]
}

function yamlProblem(file: string, text: string, error: unknown): ManifestProblem {
  if (!(error instanceof YAMLException)) throw error
  const template = text.split('\n').findIndex((line) => /^[^"'#]*\{\{/.test(line))
  const said = error.reason ?? error.message
  // A mapping as a name, as which YAML reads `{{ x }}`, is found without its place.
  const line = template >= 0 && said.includes('complex keys') ? template : (error.mark?.line ?? 0)
  const reason = line === template ? '"{{" begins a template, which must be rendered first' : said
  return { file, line: line + 1, field: '', message: `not YAML: ${reason}` }
}

/** An alias may stand for much, and for itself. */
function isBounded(value: unknown): boolean {
  let parts = 0
  const left: { readonly value: unknown; readonly depth: number }[] = [{ value, depth: 0 }]
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    parts += 1
    if (parts > PARTS_MAX || next.depth > DEPTH_MAX) return false
    if (typeof next.value !== 'object' || next.value === null) continue
    for (const part of Object.values(next.value)) left.push({ value: part, depth: next.depth + 1 })
  }
  return true
}

function lineIn(place: Place, field: string): number {
  return lineOf(place.lines, fieldIn(place, field))
}

/** The path of a field of the object from the top of its document. */
function fieldIn({ path }: Place, field: string): string {
  return path === '' || field === '' ? path + field : `${path}.${field}`
}

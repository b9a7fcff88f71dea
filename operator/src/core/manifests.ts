/** Files of manifests -> a snapshot, or what is wrong with them: by file, line and field. */
import { checkObject, isOurs } from '@farebox/crds/check.ts'
import type { FareboxObject, Kind } from '@farebox/crds/check.ts'
import { loadAll, YAML11_SCHEMA, YAMLException } from 'js-yaml'
import { budgetKey } from './compile.ts'
import type { Snapshot } from './compile.ts'
import { fieldLines, lineOf } from './yaml-lines.ts'
import type { FieldLines } from './yaml-lines.ts'

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

interface Place {
  readonly file: string
  readonly lines: FieldLines
}

/** Objects of other API groups are left alone: a folder may hold Deployments as well. */
export function readManifests(files: readonly ManifestFile[]): Manifests {
  const problems: ManifestProblem[] = []
  const objects: FareboxObject[] = []
  const places = new Map<string, Place>()
  for (const file of files) {
    for (const { value, place } of documentsOf(file, problems)) {
      const at = (field: string, message: string): void =>
        void problems.push({ file: file.path, line: lineOf(place.lines, field), field, message })
      if (!isOurs(value)) continue
      const checked = checkObject(value)
      if (checked.status === 'invalid') {
        for (const problem of checked.problems) at(problem.field, problem.message)
        continue
      }
      const key = objectKey(checked.value)
      const earlier = places.get(key)
      if (earlier !== undefined) {
        at('metadata.name', `${key} is declared twice: first in ${earlier.file}:${lineOf(earlier.lines, 'metadata.name')}`)
        continue
      }
      places.set(key, place)
      objects.push(checked.value)
    }
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
      return place === undefined ? null : { file: place.file, line: lineOf(place.lines, field) }
    },
  }
}

/** `PricingTier/pro`, `ConversationBudget/support/desk`. */
export function objectKey(object: FareboxObject): string {
  const kind: Kind = object.kind
  return object.kind === 'ConversationBudget' ? `${kind}/${budgetKey(object)}` : `${kind}/${object.metadata.name}`
}

function documentsOf(file: ManifestFile, problems: ManifestProblem[]): readonly { readonly value: unknown; readonly place: Place }[] {
  let values: readonly unknown[]
  let lines: readonly FieldLines[]
  try {
    values = loadAll(file.text)
    lines = fieldLines(file.text)
  } catch (error) {
    problems.push(yamlProblem(file.path, error))
    return []
  }
  const asKubectl = loadedAsKubectl(file.text)
  return values.flatMap((value, index) => {
    if (value === null || value === undefined) return [] // an empty document between two separators
    const place: Place = { file: file.path, lines: lines[index] ?? new Map() }
    if (isOurs(value)) {
      for (const trap of differences(value, asKubectl?.[index], '')) {
        problems.push({ file: file.path, line: lineOf(place.lines, trap.field), field: trap.field, message: trap.message })
      }
    }
    return [{ value, place }]
  })
}

function yamlProblem(file: string, error: unknown): ManifestProblem {
  if (!(error instanceof YAMLException)) throw error
  return { file, line: (error.mark?.line ?? 0) + 1, field: '', message: `not YAML: ${error.reason ?? error.message}` }
}

/** kubectl reads YAML 1.1, where `on`, `yes` and `012` mean something else. Null when it cannot be read so at all. */
function loadedAsKubectl(text: string): readonly unknown[] | null {
  try {
    return loadAll(text, { schema: YAML11_SCHEMA })
  } catch {
    return null
  }
}

/** Fields that kubectl would send otherwise than they read here. */
function differences(here: unknown, there: unknown, path: string): { readonly field: string; readonly message: string }[] {
  if (there === undefined) return []
  if (Array.isArray(here) && Array.isArray(there))
    return here.flatMap((value, index) => differences(value, there[index], `${path}[${index}]`))
  if (isRecord(here) && isRecord(there)) {
    return Object.keys(here).flatMap((key) => {
      const field = path === '' ? key : `${path}.${key}`
      if (!Object.hasOwn(there, key)) return [{ field, message: `kubectl reads the name "${key}" as a boolean: put it in quotes` }]
      return differences(here[key], there[key], field)
    })
  }
  // A date stays the text that it is: kubectl's parser knows no time stamps where it does not expect one.
  if (Object.is(here, there) || there instanceof Date) return []
  const remedy = typeof here === 'number' ? 'write it as a plain decimal' : 'put it in quotes'
  return [{ field: path, message: `kubectl reads this as ${JSON.stringify(there)}, not ${JSON.stringify(here)}: ${remedy}` }]
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

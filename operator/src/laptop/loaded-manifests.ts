/** A folder of manifests, read and compiled as a cluster would: first what an API server refuses, then what compile says. */
import { checkChange, checkObject } from '@farebox/crds/check.ts'
import type { FareboxObject } from '@farebox/crds/check.ts'
import type { Condition } from '@farebox/crds/fields.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { canonicalJson } from '../core/canonical.ts'
import { compile, objectKey } from '../core/compile.ts'
import { budgetKey } from '../core/same-pods.ts'
import type { Compiled, Snapshot } from '../core/compile.ts'
import { readManifests } from '../core/manifests.ts'
import type { Manifests } from '../core/manifests.ts'
import { upstreamsOf } from '../core/upstreams.ts'
import type { ManifestFile } from './manifest-folder.ts'

/** One thing to tell the author of a file. `line` is 0 where none is meant. */
export interface Complaint {
  readonly severity: 'error' | 'warning'
  readonly file: string
  readonly line: number
  readonly field: string
  readonly message: string
}

export interface LoadedManifests {
  readonly manifests: Manifests
  readonly compiled: Compiled
  /** By object: how many specs it has had, as an API server counts. */
  readonly generations: ReadonlyMap<string, number>
  /** What compile found: such an object is there, but is not or not wholly in force. */
  readonly complaints: readonly Complaint[]
}

export type LoadResult =
  | { readonly status: 'loaded'; readonly loaded: LoadedManifests }
  /** An API server would not take these objects: nothing was compiled. */
  | { readonly status: 'invalid'; readonly complaints: readonly Complaint[] }

export interface LoadOptions {
  readonly nowMs: number
  /** Base URLs by upstream name, in place of what the budgets say. */
  readonly upstreams?: ReadonlyMap<string, string>
  /** The configs in force. */
  readonly previous?: ReadonlyMap<string, SidecarConfig>
  /** What is in force and the new is to replace: it forbids some changes, and knows since when each condition holds. */
  readonly before?: LoadedManifests
  /** The budget that governs here, `namespace/name`: a laptop has no pods that another one could. Absent: as in a cluster. */
  readonly chosen?: string
}

/** Never throws for what is in the files. Throws an `Error` for an upstream that no budget has, or whose URL is none. */
export function loadManifests(files: readonly ManifestFile[], options: LoadOptions): LoadResult {
  const manifests = readManifests(files)
  const complaints: Complaint[] = manifests.problems.map((problem) => ({ severity: 'error', ...problem }))
  if (complaints.length === 0 && options.before !== undefined)
    complaints.push(...forbiddenChanges(options.before.manifests.snapshot, manifests))
  if (complaints.length > 0) return { status: 'invalid', complaints }
  const { tiers, budgets, priceBooks } = manifests.snapshot
  const generations = new Map(objectsOf(manifests.snapshot).map((object) => [objectKey(object), generationOf(object, options.before)]))
  const known = <T extends FareboxObject>(object: T): T => ({
    ...object,
    metadata: { ...object.metadata, generation: generations.get(objectKey(object)) },
    status: { conditions: conditionsOf(object, options.before) },
  })
  const snapshot: Snapshot = {
    tiers: tiers.map(known),
    budgets: redirected(budgets, options.upstreams ?? new Map()).map(known),
    priceBooks: priceBooks.map(known),
  }
  const compiled = compile(snapshot, {
    nowMs: options.nowMs,
    previous: options.previous ?? new Map(),
    ...(options.chosen === undefined ? {} : { chosen: options.chosen }),
  })
  return {
    status: 'loaded',
    loaded: { manifests, compiled, generations, complaints: [...complaintsOf(manifests, compiled), ...clusterOnly(manifests)] },
  }
}

/** Why no config governs by this budget, `namespace/name`, line by line; `place`: where the manifests are. */
export function whyUngoverned({ complaints, compiled }: LoadedManifests, key: string, place: string): readonly string[] {
  const told = complaints.map(formatComplaint)
  if (!compiled.statuses.has(`ConversationBudget/${key}`)) return [...told, `${place}: ConversationBudget "${key}" is gone`]
  // A warning is no reason.
  const isTold = complaints.some(({ severity }) => severity === 'error')
  return isTold ? told : [...told, `${place}: ConversationBudget "${key}" cannot be in force`]
}

/** `file:line: field: message`, one line. */
export function formatComplaint({ severity, file, line, field, message }: Complaint): string {
  const where = line === 0 ? file : `${file}:${line}`
  const text = `${where}: ${severity === 'warning' ? 'warning: ' : ''}${field === '' ? '' : `${field}: `}${message}`
  return text.replaceAll(/\s*\n\s*/g, ' ')
}

/** The conditions that an object had: their transition times stay while their status does. */
function conditionsOf(object: FareboxObject, before: LoadedManifests | undefined): Condition[] {
  return before?.compiled.statuses.get(objectKey(object))?.conditions ?? []
}

/** One more with each change of the spec; an object that comes anew begins with its own, or with 1. */
function generationOf(object: FareboxObject, before: LoadedManifests | undefined): number {
  const key = objectKey(object)
  const generation = before?.generations.get(key)
  const earlier = objectsOf(before?.manifests.snapshot).find((candidate) => objectKey(candidate) === key)
  if (generation === undefined || earlier === undefined) return object.metadata.generation ?? 1
  return canonicalJson(earlier.spec) === canonicalJson(object.spec) ? generation : generation + 1
}

function forbiddenChanges(before: Snapshot, manifests: Manifests): readonly Complaint[] {
  const known = new Map(objectsOf(before).map((object) => [objectKey(object), object]))
  return objectsOf(manifests.snapshot).flatMap((object) => {
    const key = objectKey(object)
    const earlier = known.get(key)
    if (earlier === undefined) return []
    return checkChange(earlier, object).map(({ field, message }): Complaint => ({
      severity: 'error',
      ...placeOf(manifests, key, field),
      field,
      message,
    }))
  })
}

/** Reasons of objects that are in force, if not as their author may think. */
const WARNINGS: ReadonlySet<string> = new Set([
  'PartiallyProgrammed',
  'SelectorsOverlap',
  'HeldKeyUngoverned',
  'ProviderUnpriced',
  'ProviderUnused',
  'RateUnlikely',
  'PriceUnlikely',
  'UpgradeSmaller',
  'DowngradeUnserved',
  'NoDowngrade',
  'NothingAssumed',
  'ProviderUnlikely',
  'BaseUrlUnlikely',
  'ModelUnlikely',
])

/** A refused tier or PriceBook is told where it is written, not once more for each budget that uses it. */
function complaintsOf(manifests: Manifests, compiled: Compiled): readonly Complaint[] {
  return compiled.findings
    .filter(({ reason }) => reason !== 'TierNotAccepted' && reason !== 'PriceBookNotAccepted')
    .map(({ object, field, reason, message }): Complaint => ({
      severity: WARNINGS.has(reason) ? 'warning' : 'error',
      ...placeOf(manifests, object, field),
      field,
      message,
    }))
}

/** Where what a budget says is followed in a cluster alone: it is told, since a laptop has no Secrets. */
function clusterOnly(manifests: Manifests): readonly Complaint[] {
  return manifests.snapshot.budgets.flatMap((budget) => {
    const key = objectKey(budget)
    const { upstreams, store, tier } = budget.spec
    const told = (field: string, message: string): Complaint => ({ severity: 'warning', ...placeOf(manifests, key, field), field, message })
    return [
      ...upstreams.flatMap(({ credential }, index) =>
        credential === undefined ? [] : [told(`spec.upstreams[${index}].credential.secretRef`, KEY_PASSES)],
      ),
      ...upstreams.flatMap(({ headers = [] }, index) =>
        headers.flatMap(({ secretRef }, place) =>
          secretRef === undefined ? [] : [told(`spec.upstreams[${index}].headers[${place}].secretRef`, HEADER_PASSES)],
        ),
      ),
      ...(tier.claim?.token === undefined ? [] : [told('spec.tier.claim.token.secretRef', CLAIM_KEYS_BY_FLAG)]),
      ...(store.redis === undefined ? [] : [told('spec.store.redis.secretRef', STORE_BY_FLAG)]),
    ]
  })
}

const KEY_PASSES = "is followed in a cluster alone: under `farebox run` the app's own key passes through"
const HEADER_PASSES = 'is followed in a cluster alone: under `farebox run` what the app sends by that name passes through'
const CLAIM_KEYS_BY_FLAG =
  'is followed in a cluster alone: under `farebox run` the keys are the files of --claim-keys, and without it no claim is accepted'
const STORE_BY_FLAG =
  'is followed in a cluster alone: under `farebox run` the store is the one of --store or FAREBOX_STORE, or else books in --data'

function placeOf(manifests: Manifests, object: string, field: string): { readonly file: string; readonly line: number } {
  return manifests.locate(object, field) ?? { file: object, line: 0 }
}

function objectsOf(snapshot: Snapshot | undefined): readonly FareboxObject[] {
  return snapshot === undefined ? [] : [...snapshot.tiers, ...snapshot.budgets, ...snapshot.priceBooks]
}

function redirected(budgets: readonly ConversationBudget[], upstreams: ReadonlyMap<string, string>): readonly ConversationBudget[] {
  // That there is no budget is told where one is chosen: no flag is to blame for it.
  if (upstreams.size === 0 || budgets.length === 0) return budgets
  const named = new Set<string>()
  const changed = budgets.map((budget) => {
    const moved = upstreamsOf(budget).map((upstream) => {
      named.add(upstream.name)
      const baseURL = upstreams.get(upstream.name)
      return baseURL === undefined ? upstream : { ...upstream, baseURL }
    })
    if (moved.every((upstream) => !upstreams.has(upstream.name))) return budget
    const checked = checkObject({ ...budget, spec: { ...budget.spec, upstreams: moved } })
    if (checked.status === 'invalid') {
      const [problem] = checked.problems
      throw new Error(`--upstream: ${problem?.field ?? budgetKey(budget)}: ${problem?.message ?? 'must be NAME=URL'}`)
    }
    return checked.value.kind === 'ConversationBudget' ? checked.value : budget
  })
  for (const name of upstreams.keys()) {
    if (!named.has(name)) throw new Error(`--upstream ${name}: must name one of the upstreams here: ${[...named].join(', ') || 'none'}`)
  }
  return changed
}

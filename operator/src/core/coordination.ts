/** Whether the sidecars of a budget share one set of books, as its status says it. Pure. */
import type { Condition } from '@farebox/crds/fields.ts'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import type { ObjectStatus } from './compile.ts'
import type { Finding } from './conditions.ts'

/** `budget`: `namespace/name`. */
export type StoreReport = Pick<SidecarStatus, 'store'> & { readonly config: { readonly budget: string } }

/** The statuses with the condition `Coordinated` of the budget that a sidecar reports on; `Ready` is False while that is. */
export function withCoordination(statuses: ReadonlyMap<string, ObjectStatus>, report: StoreReport): ReadonlyMap<string, ObjectStatus> {
  const key = `ConversationBudget/${report.config.budget}`
  const status = statuses.get(key)
  if (status === undefined) return statuses
  const own = coordinated(report.store, status.observedGeneration)
  const conditions = (status.conditions ?? []).flatMap((condition) => {
    if (condition.type !== 'Ready') return [condition]
    const { status: is, reason, message, lastTransitionTime } = own
    // What stands in its way already is said first.
    return [
      own,
      is === 'True' || condition.status !== 'True' ? condition : { ...condition, status: is, reason, message, lastTransitionTime },
    ]
  })
  return new Map(statuses).set(key, { ...status, conditions })
}

function coordinated({ kind, state, reason, since, unsent }: SidecarStatus['store'], observedGeneration: number | undefined): Condition {
  const generation = observedGeneration === undefined ? {} : { observedGeneration }
  const shared = { type: 'Coordinated', ...generation, lastTransitionTime: since.replace(/\.\d+Z$/, 'Z') }
  if (kind === 'Embedded' && state === 'Ready')
    return { ...shared, status: 'True', reason: 'OneSidecar', message: 'one sidecar, with books of its own' }
  switch (state) {
    case 'Ready':
      return { ...shared, status: 'True', reason: 'StoreReady', message: 'the shared store answers' }
    case 'Away':
      return { ...shared, status: 'False', reason: 'StoreAway', message: messageOf(kind, reason, unsent) }
    case 'Replaying':
      return { ...shared, status: 'False', reason: 'StoreReplaying', message: messageOf(kind, reason, unsent) }
  }
}

/**
 * The same of many sidecars, each with the books that it keeps: whether they share them, and whether those outlive a pod. What
 * happens to one of them is said of all. That books in the pod cannot be written is said of a single pod alone: of several it
 * comes first that they are separate.
 */
export function coordinationOf(reports: readonly Pick<SidecarReport, 'books' | 'status'>[]): Finding {
  const said = (status: Finding['status'], reason: string, message: string): Finding => ({ type: 'Coordinated', status, reason, message })
  const known = reports.flatMap(({ books, status }) => (status === null ? [] : [{ books, store: status.store }]))
  if (known.length === 0) return said('Unknown', 'NoReports', 'no sidecar has said where its books are')
  const books = new Set(known.map(({ books }) => books)).size
  if (books > 1)
    return said('False', 'SeparateStores', `${known.length} sidecars keep ${books} sets of books: each grants the whole of a budget`)
  for (const [state, reason] of [
    ['Away', 'StoreAway'],
    ['Replaying', 'StoreReplaying'],
  ] as const) {
    const those = known.filter(({ store }) => store.state === state)
    const unsent = those.reduce((sum, { store }) => sum + store.unsent, 0)
    const [first] = those
    if (first !== undefined)
      return said(
        'False',
        reason,
        `for ${those.length} of ${known.length} sidecars: ${messageOf(first.store.kind, first.store.reason, unsent)}`,
      )
  }
  if (known.some(({ store }) => store.kind === 'Embedded'))
    return said('False', 'EphemeralStore', 'the books are in the pod, and end with it: what was spent is forgotten')
  return said('True', 'StoreReady', 'all sidecars share one store, and it answers')
}

const MESSAGE_CHARS_MAX = 1_024

function messageOf(kind: SidecarStatus['store']['kind'], reason: string | null, unsent: number): string {
  if (kind === 'Embedded') return `its books cannot be written: ${reason}`.slice(0, MESSAGE_CHARS_MAX)
  const steps = unsent === 1 ? '1 step has not been told to it' : `${unsent} steps have not been told to it`
  return `${reason ?? 'the shared store does not answer'}; ${steps}`.slice(-MESSAGE_CHARS_MAX)
}

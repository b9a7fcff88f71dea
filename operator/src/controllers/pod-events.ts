/**
 * What became of a pod at admission, as an event on it or on what owns it: by what the API server has of the pod, since anybody may send
 * a review to the webhook, of any pod in any namespace.
 */
import { ANNOTATIONS, SKIP_REASONS } from '@farebox/crds/cluster.ts'
import { INJECTION_HASH_PATTERN } from '../core/injection-hash.ts'
import { isInjected, skippedFor, skipReason } from '../core/workloads.ts'
import type { Asking } from '../core/workloads.ts'
import type { EventSubject, RecordedEvent } from '../kube/events.ts'
import type { KubeObject } from '../kube/kube.ts'
import { EVENT_REASONS } from './event-reasons.ts'
import type { EventReason } from './event-reasons.ts'

/** What is older was told of by who led before. */
const NEW_MS = 60_000

/** Null: there is nothing to tell, or it was told. */
export function podEvent({ metadata }: KubeObject, nowMs: number): RecordedEvent<EventReason> | null {
  const { annotations = {}, creationTimestamp = '' } = metadata
  if (!(nowMs - Date.parse(creationTimestamp) < NEW_MS)) return null
  const { [ANNOTATIONS.injectionHash]: hash = '', [ANNOTATIONS.skipped]: skipped, [ANNOTATIONS.warnings]: warnings } = annotations
  const regarding = subjectOf(metadata)
  const said = warnings === undefined ? '' : `: ${warnings.replaceAll('\n', '; ')}`
  const reason = SKIP_REASONS.find((known) => known === skipped)
  if (reason !== undefined)
    return { regarding, type: 'Warning', reason: EVENT_REASONS.skipped, action: 'Skip', note: `no sidecar, ${reason}${said}` }
  if (!INJECTION_HASH_PATTERN.test(hash)) return null
  const note = `sidecar of budget "${annotations[ANNOTATIONS.budget] ?? ''}"${said}`
  // What is to be warned of lets calls go past the sidecar, or past a part of what it does.
  return { regarding, type: warnings === undefined ? 'Normal' : 'Warning', reason: EVENT_REASONS.injected, action: 'Inject', note }
}

/** Of a pod that a budget governs, and that was there before it: when the budget comes. Null: there is nothing to tell, or it was told. */
export function olderPodEvent({ metadata }: KubeObject, asking: Asking, nowMs: number): RecordedEvent<EventReason> | null {
  if (!(nowMs - Date.parse(asking.budgetBornAt) < NEW_MS)) return null
  if (isInjected(metadata) || skipReason(metadata, asking) !== 'OlderThanBudget') return null
  const note = `no sidecar, ${skippedFor('OlderThanBudget')}`
  return { regarding: subjectOf(metadata), type: 'Warning', reason: EVENT_REASONS.skipped, action: 'Skip', note }
}

/** What owns the pod, or the pod itself where nothing does. */
export function subjectOf({ name, namespace, uid, ownerReferences }: KubeObject['metadata']): EventSubject {
  const owner = ownerReferences?.find(({ controller }) => controller === true)
  const subject = owner ?? { apiVersion: 'v1', kind: 'Pod', name, uid }
  return {
    apiVersion: subject.apiVersion,
    kind: subject.kind,
    name: subject.name,
    ...(subject.uid === undefined ? {} : { uid: subject.uid }),
    ...(namespace === undefined ? {} : { namespace }),
  }
}

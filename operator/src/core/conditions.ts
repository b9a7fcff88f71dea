/** Status conditions: each True, False or Unknown with a reason; the transition time moves only with the status. */
import type { Condition } from '@farebox/crds/fields.ts'

/** One finding of compile: a condition before it has a time. */
export interface Finding {
  readonly type: 'Accepted' | 'Programmed' | 'Ready'
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
  /** The field that the finding is about, for `lint`. */
  readonly field?: string
}

/** Conditions from findings, keeping the transition times of those whose status did not change. */
export function conditionsOf(
  findings: readonly Finding[],
  before: readonly Condition[],
  generation: number | undefined,
  nowMs: number,
): Condition[] {
  return findings.map(({ type, status, reason, message }) => {
    const known = before.find((condition) => condition.type === type)
    return {
      type,
      status,
      reason,
      message: message.slice(0, 1024),
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime: known?.status === status ? known.lastTransitionTime : new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z'),
    }
  })
}

/** `Ready` sums up: False with the first reason that is not True. */
export function withReady(findings: readonly Finding[]): readonly Finding[] {
  const blocking = findings.find((finding) => finding.status !== 'True')
  if (blocking === undefined) return [...findings, { type: 'Ready', status: 'True', reason: 'Ready', message: 'in force' }]
  return [...findings, { type: 'Ready', status: 'False', reason: blocking.reason, message: blocking.message }]
}

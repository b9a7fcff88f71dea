/** Status conditions: each True, False or Unknown with a reason; the transition time moves only with the status. */
import type { Condition } from '@farebox/crds/fields.ts'

/** What there is to be said of an object, in the order in which it stands in the way of `Ready`. */
const JUDGED = ['Accepted', 'Programmed', 'Injected', 'Enforced', 'Coordinated', 'UsageFresh'] as const
/** `Ready` sums up. The others are there only while they are True, as kstatus wants it: something is under way, or somebody must act. */
const SUMMARY = ['Ready', 'Reconciling', 'Stalled'] as const

/** One finding: a condition before it has a time. */
export interface Finding {
  readonly type: (typeof JUDGED)[number] | (typeof SUMMARY)[number]
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
  /** The field that the finding is about, for `lint`. */
  readonly field?: string
  /** The part of the message that says so where the object is in force, but not as its author may think; for `lint`, which brings nothing into force. */
  readonly doubt?: string
}

/** Why something cannot be in force, or is in force as its author may not have meant it: by the field at fault. */
export type Fault = Required<Pick<Finding, 'reason' | 'field' | 'message'>>

/** `doubt`: what the object says that its author may not have meant; it counts all the same. */
export function acceptedFinding(message: string, doubt: Fault | null): Finding {
  return withDoubt({ type: 'Accepted', status: 'True', reason: 'Accepted', message }, doubt)
}

/** The finding, with the reason and the field of the doubt, and both messages. */
export function withDoubt(finding: Finding, doubt: Fault | null): Finding {
  return doubt === null ? finding : { ...finding, ...doubt, message: `${finding.message}; but ${doubt.message}`, doubt: doubt.message }
}

/** Several doubts as one: the reason and the field of the first, the words of all. Null: there is none. */
export function together(doubts: readonly (Fault | null)[]): Fault | null {
  const told = doubts.filter((doubt) => doubt !== null)
  const [first] = told
  return first === undefined ? null : { ...first, message: told.map(({ message }) => message).join('; and ') }
}

export function refusedFinding(fault: Fault): Finding {
  return { type: 'Accepted', status: 'False', ...fault }
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
      message: message.slice(0, MESSAGE_CHARS_MAX),
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime: known?.status === status ? known.lastTransitionTime : new Date(nowMs).toISOString().replace(/\.\d+Z$/, 'Z'),
    }
  })
}

const MESSAGE_CHARS_MAX = 1_024

/** The findings with what sums them up; a summary among them is worked out anew. */
export function withSummary(findings: readonly Finding[]): readonly Finding[] {
  const judged = findings.filter(({ type }) => isOneOf(JUDGED, type))
  const blocking = judged.find(isInTheWay)
  if (blocking === undefined) return [...judged, { type: 'Ready', status: 'True', reason: 'Ready', message: 'in force' }]
  const { reason, message } = blocking
  return [...judged, { type: 'Ready', status: 'False', reason, message }, ...abnormal(blocking)]
}

/**
 * The findings that conditions came from, without their summary: so that what pods and sidecars tell can be added to what compile
 * found, and summed up again.
 */
export function findingsOf(conditions: readonly Condition[]): readonly Finding[] {
  return conditions.flatMap(({ type, status, reason, message }) => (isOneOf(JUDGED, type) ? [{ type, status, reason, message }] : []))
}

/**
 * An object must be accepted and programmed. Of the rest only what is known to be wrong counts: a budget whose pods have had no calls
 * yet is as ready as it can be. Numbers that are old are told, but all is in force; books that end with a pod were somebody's choice.
 */
function isInTheWay({ type, status, reason }: Finding): boolean {
  if (type === 'UsageFresh' || reason === 'EphemeralStore') return false
  return type === 'Accepted' || type === 'Programmed' ? status !== 'True' : status === 'False'
}

/** Objects that are applied together come one after the other: what waits for another object, or for pods, may come right by itself. */
const PASSING: ReadonlySet<string> = new Set([
  'TierNotFound',
  'TierNotAccepted',
  'PriceBookNotAccepted',
  'MissingExchangeRate',
  'ModelUnpriced',
])

/**
 * Of what was accepted: what does not come right by itself, however often it is tried. Whoever waits for an object by kstatus waits no longer then:
 * https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
 */
const LASTING: ReadonlySet<string> = new Set([
  'PartiallyProgrammed',
  'Refused',
  'NoStore',
  'TooLarge',
  'WriteRefused',
  'RuntimeSecretRefused',
])

function abnormal({ type, status, reason, message }: Finding): readonly Finding[] {
  switch (type) {
    case 'Accepted':
      return [{ type: status === 'Unknown' || PASSING.has(reason) ? 'Reconciling' : 'Stalled', status: 'True', reason, message }]
    case 'Programmed':
      return [{ type: LASTING.has(reason) ? 'Stalled' : 'Reconciling', status: 'True', reason, message }]
    default:
      return [] // in force as far as it goes: `Ready` says what is missing
  }
}

function isOneOf<T extends string>(types: readonly T[], type: string): type is T {
  return types.some((known) => known === type)
}

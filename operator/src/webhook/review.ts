/**
 * AdmissionReview in, AdmissionReview out: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
 * Answers from memory. It never refuses a pod: that is for the admission policy, which is there when we are not.
 */
import * as z from 'zod'
import type { SkipReason } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { governing } from '../core/governance.ts'
import { planInjection } from '../core/inject.ts'
import type { InjectionPlan } from '../core/inject.ts'
import type { InjectionSettings } from '../core/injection.ts'
import type { OldNode } from '../core/old-node.ts'
import { PodSchema } from '../core/pod.ts'

const REVIEW_VERSION = 'admission.k8s.io/v1'

const ReviewSchema = z.object({
  apiVersion: z.literal(REVIEW_VERSION),
  kind: z.literal('AdmissionReview'),
  request: z.object({
    uid: z.string().min(1),
    kind: z.object({ group: z.string().optional(), kind: z.string() }),
    /** Of what is created. The pod's own may be empty. */
    namespace: z.string().min(1),
    operation: z.string(),
    subResource: z.string().optional(),
    dryRun: z.boolean().nullish(),
    object: z.unknown(),
  }),
})

export interface AdmissionResponse {
  readonly uid: string
  readonly allowed: true
  readonly patchType?: 'JSONPatch'
  /** Base64. */
  readonly patch?: string
  readonly warnings?: readonly string[]
  readonly auditAnnotations?: Readonly<Record<string, string>>
}

export interface Answer {
  readonly apiVersion: typeof REVIEW_VERSION
  readonly kind: 'AdmissionReview'
  readonly response: AdmissionResponse
}

export type Reviewed =
  | { readonly status: 'malformed'; readonly message: string }
  | {
      readonly status: 'answered'
      readonly answer: Answer
      readonly result: 'injected' | 'skipped' | 'none' | 'failed'
      readonly reason: SkipReason | null
      readonly dryRun: boolean
      /** What went wrong, when `failed`. */
      readonly error: unknown
    }

export interface ReviewContext {
  readonly budgets: Iterable<ConversationBudget>
  readonly oldNodes: readonly OldNode[]
  /** As `Place` has them, of a namespace. */
  readonly unreadableIn: (namespace: string) => readonly string[]
  readonly settings: InjectionSettings
}

/** Never throws: a pod that we fail over is let go as it is, with a warning. */
export function review(body: unknown, context: ReviewContext): Reviewed {
  const parsed = ReviewSchema.safeParse(body)
  if (!parsed.success) return { status: 'malformed', message: `must be an AdmissionReview of ${REVIEW_VERSION}: ${problems(parsed.error)}` }
  const { request } = parsed.data
  const dryRun = request.dryRun === true
  const isPod = request.kind.kind === 'Pod' && (request.kind.group ?? '') === '' && (request.subResource ?? '') === ''
  if (!isPod || request.operation !== 'CREATE') {
    const warnings = [`farebox: is asked about ${request.operation} of ${request.kind.kind}, but looks at CREATE of Pod alone`]
    return answered(request.uid, { status: 'none', warnings }, dryRun)
  }
  const pod = PodSchema.safeParse(request.object)
  if (!pod.success) return { status: 'malformed', message: `request.object must be a Pod: ${problems(pod.error)}` }
  try {
    const labels = pod.data.metadata.labels ?? {}
    const { namespace } = request
    const budget = governing({ namespace, labels }, context.budgets)
    const place = { namespace, oldNodes: context.oldNodes, unreadable: context.unreadableIn(namespace) }
    const plan = planInjection(pod.data, place, budget, context.settings)
    return answered(request.uid, plan, dryRun)
  } catch (error) {
    const warnings = ['farebox: failed over this pod and left it as it is: it has no sidecar; see the log of the operator']
    return { ...answered(request.uid, { status: 'none', warnings }, dryRun), result: 'failed', error }
  }
}

function answered(uid: string, plan: InjectionPlan, dryRun: boolean): Extract<Reviewed, { status: 'answered' }> {
  const patch = plan.status === 'none' ? [] : plan.patch
  const reason = plan.status === 'skip' ? plan.reason : null
  return {
    status: 'answered',
    answer: {
      apiVersion: REVIEW_VERSION,
      kind: 'AdmissionReview',
      response: {
        uid,
        allowed: true,
        ...(patch.length === 0
          ? {}
          : { patchType: 'JSONPatch' as const, patch: Buffer.from(JSON.stringify(patch), 'utf8').toString('base64') }),
        ...(plan.warnings.length === 0 ? {} : { warnings: plan.warnings }),
        ...(plan.status === 'none' ? {} : { auditAnnotations: { injection: reason ?? 'Injected' } }),
      },
    },
    result: plan.status === 'inject' ? 'injected' : plan.status === 'skip' ? 'skipped' : 'none',
    reason,
    dryRun,
    error: null,
  }
}

const PROBLEMS_SHOWN_MAX = 3

function problems(error: z.ZodError): string {
  return error.issues
    .slice(0, PROBLEMS_SHOWN_MAX)
    .map(({ path, message }) => `${path.length === 0 ? '' : `${path.join('.')}: `}${message}`)
    .join('; ')
}

/** What is sent for an admitted call: to whom, with which key, and what is changed in the request. */
import { limitFieldOf, limitToWrite } from '../core/output-limit.ts'
import type { LimitField } from '../core/output-limit.ts'
import type { RequestChange } from '../core/request.ts'
import type { Admitted } from './admit.ts'
import { NO_HEADERS, UNUSABLE } from './credentials.ts'
import { sentHeaders } from './exchange.ts'
import type { Turn } from './exchange.ts'
import { headersElsewhere, queryElsewhere, withHeaders, withoutQueryKey } from './headers.ts'
import { modelKey } from './usage-refusals.ts'

/** How this upstream is spoken to. */
export interface ChangeOptions {
  readonly injectUsage: boolean
  /** The field for the bound of the output that was refused before in this turn. */
  readonly refusedLimitField: LimitField | null
}

/** The change of the request that a plan asks for; nothing where nothing changes. */
export function changeOf(admitted: Admitted, { injectUsage, refusedLimitField }: ChangeOptions): RequestChange {
  const { plan, turn, outputTokens } = admitted
  if (turn.policy.config.mode === 'Observe') return injectUsage ? { includeUsage: true } : {}
  const { upstream } = servedBy(admitted)
  const learned = turn.gateway.limitFields.get(modelKey(upstream, plan.model)) ?? null
  const field = limitFieldOf(turn.request, { refused: refusedLimitField, learned, usual: upstream.outputLimitField })
  const outputLimit = limitToWrite(turn.request, outputTokens, field)
  const wereCut = plan.hostedCalls !== null && turn.gateway.boundsCut.has(turn.conversationId)
  return {
    ...(plan.swap === null ? {} : { model: plan.swap.to, ...plan.swap.change }),
    ...(plan.shaped.rewritten ? { messages: plan.shaped.messages } : {}),
    ...(outputLimit === null ? {} : { outputLimit }),
    ...(injectUsage ? { includeUsage: true as const } : {}),
    ...(plan.hostedCalls === null ? {} : { hostedCalls: plan.hostedCalls }),
    ...(plan.hostedCallsCut || wereCut ? { hostedCallsCut: true as const } : {}),
    ...(plan.refuseTools ? { toolChoice: 'none' as const } : {}),
  }
}

/** Whom a call goes to, and what lets it in there. */
export type Served = Pick<Turn, 'upstream' | 'heldKey' | 'upstreamHeaders'>

/** Whom the call goes to, and with which key: where the model was swapped that may be another upstream than the one that was asked. */
export function servedBy({ turn, plan }: Admitted): Served {
  const { upstream, heldKey, upstreamHeaders, policy, gateway, incoming } = turn
  const other = plan.swap === null ? undefined : policy.config.upstreams.find(({ name }) => name === plan.swap?.upstream)
  if (other === undefined) return { upstream, heldKey, upstreamHeaders }
  const key = gateway.credentials.keyFor(other, incoming.headers)
  const headers = gateway.credentials.headersFor(other)
  // They were there when the turn was decided. Without them the provider refuses; the app's own are not sent to another provider.
  return {
    upstream: other,
    heldKey: typeof key === 'string' ? key : '',
    upstreamHeaders: headers === UNUSABLE ? NO_HEADERS : headers,
  }
}

/** Headers and path as they go to whom the call is served by: another than the one that was asked gets no more than it needs of them. */
export function addressedTo(
  { upstream, heldKey, upstreamHeaders }: Served,
  turn: Turn,
  path: string,
): { readonly headers: readonly string[]; readonly path: string } {
  if (upstream !== turn.upstream) {
    const said = headersElsewhere(sentHeaders({ ...turn, upstreamHeaders: NO_HEADERS }), heldKey ?? '', turn.family)
    return { headers: withHeaders(said, upstreamHeaders.raw), path: queryElsewhere(path) }
  }
  return { headers: sentHeaders(turn), path: heldKey === null ? path : withoutQueryKey(path) }
}

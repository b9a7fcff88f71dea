/** The app API: where a conversation stands, and what the app tells about it. Loopback only; the pod is the trust boundary. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { text } from '@farebox/crds/fields.ts'
import { BalancesQuerySchema } from '@farebox/crds/ledger-page.ts'
import { formatUsd, parseUsd, USD_PATTERN } from '@farebox/crds/usd.ts'
import * as z from 'zod'
import { toldAt } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, UserId } from '../core/conversation.ts'
import { COST_MAX } from '../core/cost.ts'
import { watchedAlerts, withReached } from '../core/reached-percents.ts'
import { drawsOf } from '../core/terms.ts'
import type { CapDraw, Terms } from '../core/terms.ts'
import { MEMORY_PAGE_MAX, NONE_FIRED, StoreError } from '../store/store.ts'
import { usdFloat } from '../telemetry/metrics.ts'
import { readBody } from './body.ts'
import { refuse } from './exchange.ts'
import type { Gateway, Policy } from './gateway.ts'
import { accountBalances, accountsPage, ledgerPage } from './ledger-api.ts'
import { searchableTiers } from './memory.ts'
import { reportAlerts } from './report.ts'
import { confirmResolution, reverseResolution } from './resolutions.ts'
import { findConversation, newestStandings, readStanding, termsFor } from './standings.ts'
import { statusOf } from './status.ts'
import { askedFor, usersPage, userStanding } from './users-api.ts'

const LIST_MAX = 1_000
const LIST_DEFAULT = 100
/** Room for the longest list of accounts. More would hold up all calls while it is parsed. */
const BODY_BYTES_MAX = 256 * 1024
/** What a message says of a body that is wrong in many places. */
const ISSUES_MAX = 8
const ISSUE_LENGTH_MAX = 200

interface Reply {
  readonly status: number
  readonly body: unknown
}

interface AppRequest {
  readonly gateway: Gateway
  readonly policy: Policy
  readonly method: string
  /** Of the path below `/farebox/v1`, decoded. */
  readonly segments: readonly string[]
  readonly query: URLSearchParams
  /** An empty object where there is none; null where it is no JSON. */
  readonly body: unknown
}

/**
 * Answers a request to `/farebox/v1`. Rejects with `StoreError` while the store is needed and away; whatever is wrong with the request
 * itself is answered.
 */
export async function serveAppApi(gateway: Gateway, incoming: IncomingMessage, outgoing: ServerResponse, requestId: string): Promise<void> {
  if (isRebound(incoming)) {
    const message = 'The host of a request to the app API must be an address, localhost, or a name without a domain.'
    return refuse({ gateway, outgoing, requestId, family: 'openai' }, { code: 'identity_rejected', message, param: 'host' })
  }
  const url = new URL(incoming.url ?? '/', 'http://localhost')
  const segments = url.pathname.split('/').slice(3).map(decodeSegment)
  const policy = gateway.policy()
  if (policy === null) return refuse({ gateway, outgoing, requestId, family: 'openai' }, { code: 'policy_unavailable' })
  let body: unknown = {}
  if (incoming.method === 'POST' && takesBody(segments)) {
    const read = await readBody({ incoming, outgoing, place: null }, BODY_BYTES_MAX)
    if (read.status === 'aborted') return
    if (read.status === 'refused') return refuse({ gateway, outgoing, requestId, family: 'openai' }, read.refusal)
    body = parseBody(read.body)
  }
  const request = { gateway, policy, method: incoming.method ?? 'GET', segments, query: url.searchParams, body }
  const reply = await route(request).catch((error: unknown): Reply => {
    if (error instanceof QueryError) return { status: 400, body: { error: { message: error.message } } }
    throw error
  })
  const text = Buffer.from(JSON.stringify(reply.body))
  outgoing.writeHead(reply.status, ['content-type', 'application/json', 'cache-control', 'no-store', 'content-length', String(text.length)])
  outgoing.end(text)
}

/**
 * A page from anywhere can have its own domain lead to this machine (DNS rebinding), and its visitor's browser then takes what is here for a
 * part of that page. No domain leads to the loopback address otherwise, but for names that containers have for their machine
 * (`host.docker.internal`): below `internal`, which is reserved (ICANN, July 2024), no page has one.
 */
export function isRebound({
  headers,
  socket,
}: Pick<IncomingMessage, 'headers'> & { readonly socket: { readonly localAddress?: string | undefined } }): boolean {
  const name = (headers.host ?? '').replace(/:\d*$/, '').replace(/\.$/, '').toLowerCase()
  const isLoopback = /^(?:::ffff:)?127\.|^::1$/.test(socket.localAddress ?? '')
  return (
    isLoopback &&
    name.includes('.') &&
    !/^localhost\.localdomain$|\.(?:localhost|internal)$/.test(name) &&
    !name.startsWith('[') &&
    isIP(name) === 0
  )
}

/** What is sent to other resources says nothing to them, and is not read. */
function takesBody([collection, id, action]: readonly string[]): boolean {
  if (collection === 'balances') return id === undefined
  return collection === 'conversations' && (action === 'costs' || action === 'resolution')
}

async function route(request: AppRequest): Promise<Reply> {
  const { gateway, policy, method, query, body } = request
  const [collection, id, action] = request.segments
  if (collection === 'users' && id !== undefined && id !== '') return await ofUser(request, id, action)
  if (collection === 'conversations' && id !== undefined) return await ofConversation(request, id, action)
  if (id !== undefined) return notFound('no such resource')
  switch (`${method} ${collection}`) {
    case 'GET status':
      return { status: 200, body: await statusOf(gateway, policy) }
    case 'GET alerts':
      return { status: 200, body: { alerts: gateway.alerts.newestFirst(limitOf(query)) } }
    case 'GET ledger':
      return { status: 200, body: await ledgerPage(gateway.store, { after: afterOf(query), limit: limitOf(query) }) }
    case 'GET accounts':
      return await accounts(gateway, query)
    case 'POST balances':
      return await balances(gateway, body)
    case 'GET users':
      return await usersPage(gateway, policy, query, limitOf(query))
    case 'GET conversations':
      return { status: 200, body: { conversations: await newestStandings(gateway, policy, limitOf(query)) } }
    default:
      return notFound('no such resource')
  }
}

async function ofUser(request: AppRequest, id: string, action: string | undefined): Promise<Reply> {
  const { gateway, policy, method, query } = request
  const user = gateway.hasher.user(policy.config, id)
  if (method === 'GET' && action === undefined) return await userStanding(gateway, policy, user, query)
  if (method === 'GET' && action === 'history') return await history(request, user)
  return method === 'DELETE' && action === undefined ? await forget(gateway, user) : notFound('no such resource')
}

async function ofConversation(request: AppRequest, id: string, action: string | undefined): Promise<Reply> {
  const { gateway, policy, method, query, body } = request
  const conversation = await findConversation(gateway, policy, { id, tier: askedFor(query, 'tier'), user: askedFor(query, 'user') })
  if (conversation === null) {
    // A sidecar that is alone does not know those of others.
    if (gateway.storeIsShared && gateway.storeStanding().state !== 'Ready')
      throw new StoreError('away', 'whether there is such a conversation cannot be told')
    return notFound('no such conversation')
  }
  const terms = await termsFor(gateway, policy, conversation)
  if (terms === null) return notFound('the contract of this conversation is gone')
  const named: Named = { gateway, policy, conversation, terms }
  if (method === 'GET' && action === undefined) return { status: 200, body: await readStanding(named) }
  if (method !== 'POST') return notFound('no such resource')
  switch (action) {
    case 'boundary':
      await tellBoundary(named)
      return { status: 200, body: { status: 'ok' } }
    case 'resolution':
      return await resolve(named, body)
    case 'reopen':
      return await reopen(named)
    case 'costs':
      return await addCost(named, body)
    default:
      return notFound('no such resource')
  }
}

/** A conversation that a request names, with the terms that it goes by. */
interface Named {
  readonly gateway: Gateway
  readonly policy: Policy
  readonly conversation: Conversation
  readonly terms: Terms
}

/** All that there are, also such as no entry names, for whoever checks the ledger. */
async function accounts(gateway: Gateway, query: URLSearchParams): Promise<Reply> {
  try {
    return { status: 200, body: await accountsPage(gateway.store, { cursor: askedFor(query, 'cursor'), limit: limitOf(query) }) }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return { status: 400, body: { error: { message: 'cursor: must be the `next` of a page of accounts' } } }
  }
}

/** Of accounts that the body names, for whoever checks the ledger. */
async function balances(gateway: Gateway, body: unknown): Promise<Reply> {
  const parsed = BalancesQuerySchema.safeParse(body)
  if (!parsed.success) return invalid(parsed.error)
  return { status: 200, body: { balances: await accountBalances(gateway.store, parsed.data.accounts, gateway.nowMs()) } }
}

/** What the user and the assistant said, best first; newest first without a query. */
async function history({ gateway, policy, query }: AppRequest, user: UserId): Promise<Reply> {
  if (searchableTiers(policy.config).length === 0)
    return {
      status: 409,
      body: { error: { message: 'nothing is remembered: no tier of this workload has sessions.memory.mode: Searchable' } },
    }
  const cursor = askedFor(query, 'cursor')
  try {
    const page = await gateway.store.searchMemory({
      user,
      query: query.get('q') ?? '',
      limit: Math.min(limitOf(query), MEMORY_PAGE_MAX),
      ...(cursor === null ? {} : { cursor }),
      nowMs: gateway.nowMs(),
    })
    const entries = page.hits.map(({ conversation, session, atMs, role, text, score }) => ({
      conversation,
      session,
      at: new Date(atMs).toISOString(),
      role,
      text,
      ...(score === undefined ? {} : { score }),
    }))
    return { status: 200, body: { entries, next: page.next } }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return { status: 400, body: { error: { message: 'cursor: must be the `next` of a page of the same search' } } }
  }
}

/** Whatever the tiers say by now: what was remembered under other terms is erased too. */
async function forget(gateway: Gateway, user: UserId): Promise<Reply> {
  const { entries } = await gateway.store.forgetUser({ user, nowMs: gateway.nowMs() })
  gateway.log.info({ entries }, 'what was remembered of a user is erased')
  return { status: 200, body: { status: 'erased', entries } }
}

const ResolutionBody = z.strictObject({ outcome: z.enum(['confirmed', 'reversed']) })

async function resolve({ gateway, policy, conversation }: Named, body: unknown): Promise<Reply> {
  const parsed = ResolutionBody.safeParse(body)
  if (!parsed.success) return invalid(parsed.error)
  const status =
    parsed.data.outcome === 'confirmed'
      ? await confirmResolution(gateway, conversation)
      : await reverseResolution(gateway, conversation, policy.config.resolution)
  switch (status) {
    case 'added':
    case 'exists':
      return { status: 200, body: { status } }
    case 'unknown':
      return notFound('no such conversation')
    case 'notResolved':
      return { status: 409, body: { error: { message: 'outcome: only a resolution can be reversed, and there is none' } } }
    case 'tooLate':
      return { status: 409, body: { error: { message: 'outcome: the reopen window of the resolution is over, and it stands' } } }
  }
}

/** The next user turn begins another task. */
async function tellBoundary({ gateway, conversation }: Named): Promise<void> {
  const nowMs = gateway.nowMs()
  const change: ConversationChange = {
    ofSession: conversation.session,
    atTaskBoundary: { is: true, atMs: toldAt(nowMs, conversation.boundaryAtMs) },
  }
  await gateway.store.update({ conversation: conversation.id, change, nowMs })
}

/** Gives back what remained, no more: the budget of the session is what it was. Within the reopen window it takes a resolution back. */
async function reopen(named: Named): Promise<Reply> {
  const { gateway, policy, conversation } = named
  await reverseResolution(gateway, conversation, policy.config.resolution)
  const nowMs = gateway.nowMs()
  const change: ConversationChange = {
    ofSession: conversation.session,
    state: { is: 'open', atMs: toldAt(nowMs, conversation.stateAtMs) },
  }
  const updated = await gateway.store.update({ conversation: conversation.id, change, nowMs })
  return { status: 200, body: await readStanding({ ...named, conversation: updated?.conversation ?? conversation }) }
}

const CostBody = z.strictObject({
  /** Decimal USD. */
  cost: z
    .string()
    .regex(USD_PATTERN, 'must be a decimal amount in quotes, such as "0.01"')
    .refine((cost) => !USD_PATTERN.test(cost) || parseUsd(cost) <= COST_MAX, `must be at most ${formatUsd(COST_MAX)}`),
  /** What it was for: `vectorSearch`. */
  label: storable(64),
  /** Names the cost, so that telling it twice counts once. */
  operationId: storable(128),
})

/** What every engine of the books takes, and tells from every other text. `lengthMax`: in Unicode code points, as of ids of conversations. */
function storable(lengthMax: number): z.ZodType<string> {
  return text(1, lengthMax).refine(
    (value) => value.isWellFormed() && !/\p{Cc}/u.test(value),
    'must be without control characters and halves of surrogate pairs',
  )
}

async function addCost(named: Named, body: unknown): Promise<Reply> {
  const { gateway, policy, conversation, terms } = named
  const parsed = CostBody.safeParse(body)
  if (!parsed.success) return invalid(parsed.error)
  const cost = parseUsd(parsed.data.cost)
  const nowMs = gateway.nowMs()
  const draws = drawsOf({
    terms,
    conversation: conversation.id,
    session: conversation.session,
    user: conversation.user,
    budgetKey: policy.budgetKey,
    limits: policy.limits,
    nowMs,
  })
  const status = await gateway.store.charge({
    operationId: `cost/${conversation.id}/${parsed.data.operationId}`,
    accounts: draws.map((draw) => draw.account),
    cost,
    atMs: nowMs,
    note: {
      conversation: conversation.id,
      session: conversation.session,
      ...(conversation.user === null ? {} : { user: conversation.user }),
      tier: conversation.tier,
      purpose: 'cost',
      label: parsed.data.label,
      drivers: { other: cost },
    },
    conversation: conversation.id,
    change: { addDrivers: { other: cost } },
  })
  if (status === 'charged') {
    gateway.metrics.cost.add([conversation.tier, 'other'], usdFloat(cost))
    await fireAlerts(named, draws)
  }
  return { status: 200, body: { status } }
}

/** Alerts that a cost has reached, as a turn's settlement would fire them. */
async function fireAlerts({ gateway, conversation, terms }: Named, draws: readonly CapDraw[]): Promise<void> {
  const nowMs = gateway.nowMs()
  const { accounts } = await gateway.store.read({ conversation: conversation.id, accounts: draws.map((draw) => draw.account), nowMs })
  const change = withReached({ ofSession: conversation.session }, watchedAlerts(draws, terms.contract.alerts), accounts)
  const updated = await gateway.store.update({ conversation: conversation.id, change, nowMs })
  reportAlerts({ gateway, terms, conversationId: conversation.id, conversation }, updated ?? NONE_FIRED)
}

function afterOf(query: URLSearchParams): number {
  return wholeOf(query, 'after', 0) ?? 0
}

/** More than a page holds is a page. */
function limitOf(query: URLSearchParams): number {
  return Math.min(wholeOf(query, 'limit', 1) ?? LIST_DEFAULT, LIST_MAX)
}

/** Throws `QueryError` for anything but a whole number from `min` on; null where it is not asked for. */
function wholeOf(query: URLSearchParams, name: string, min: number): number | null {
  const asked = query.get(name)
  if (asked === null) return null
  const value = Number(asked)
  if (!/^\d+$/.test(asked) || !Number.isSafeInteger(value) || value < min)
    throw new QueryError(`${name}: must be a whole number from ${min} on`)
  return value
}

/** What is asked for cannot be; the message is for the client. */
class QueryError extends Error {
  override readonly name = 'QueryError'
}

function parseBody(body: Buffer): unknown {
  if (body.length === 0) return {}
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return null // no schema accepts it
  }
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

function invalid({ issues }: z.ZodError): Reply {
  const said = issues.slice(0, ISSUES_MAX).map((issue) => cut(`${issue.path.join('.') || 'body'}: ${issue.message}`))
  const more = issues.length - said.length
  return { status: 400, body: { error: { message: [...said, ...(more > 0 ? [`and ${more} more`] : [])].join('; ') } } }
}
function cut(text: string): string {
  return text.length > ISSUE_LENGTH_MAX ? `${text.slice(0, ISSUE_LENGTH_MAX)}...` : text
}
function notFound(message: string): Reply {
  return { status: 404, body: { error: { message } } }
}

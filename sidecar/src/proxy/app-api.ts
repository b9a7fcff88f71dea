/** The app API: where a conversation stands, and what the app tells about it. Loopback only; the pod is the trust boundary. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import { BalancesQuerySchema } from '@farebox/crds/ledger-page.ts'
import { formatUsd, parseUsd, USD_PATTERN } from '@farebox/crds/usd.ts'
import * as z from 'zod'
import { toldAt } from '../core/conversation-change.ts'
import type { Conversation, ConversationChange, UserId } from '../core/conversation.ts'
import { COST_MAX } from '../core/cost.ts'
import { percentUsed } from '../core/ladder.ts'
import { standingOf } from '../core/standing.ts'
import type { Standing } from '../core/standing.ts'
import { balancesOf, drawsOf, sessionAccount } from '../core/terms.ts'
import type { CapDraw, Terms } from '../core/terms.ts'
import { MEMORY_PAGE_MAX, StoreError } from '../store/store.ts'
import type { BudgetStore, ListedConversation } from '../store/store.ts'
import { usdFloat } from '../telemetry/metrics.ts'
import { readBody } from './body.ts'
import { refuse } from './exchange.ts'
import type { Gateway, Policy } from './gateway.ts'
import { balancesOf as accountBalances, ledgerPage } from './ledger-api.ts'
import { searchableTiers } from './memory.ts'
import { reportAlerts } from './report.ts'
import { confirmResolution, reverseResolution } from './resolutions.ts'
import { statusOf } from './status.ts'
import { askedFor, usersPage, userStanding } from './users-api.ts'

const LIST_MAX = 1_000
const LIST_DEFAULT = 100
/** Standings of a list that are read side by side: a store on the network answers them together. */
const READS_AT_ONCE = 32
const HASHED_ID = /^[0-9a-f]{32}$/
/** Room for the longest list of accounts. More would hold up all calls while it is parsed. */
const BODY_BYTES_MAX = 256 * 1024
/** What a message says of a body that is wrong in many places. */
const ISSUES_MAX = 8
const ISSUE_LENGTH_MAX = 200

interface Reply {
  readonly status: number
  readonly body: unknown
}

export async function serveAppApi(gateway: Gateway, incoming: IncomingMessage, outgoing: ServerResponse, requestId: string): Promise<void> {
  if (isLedHere(incoming)) {
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
  const reply = await route(gateway, policy, incoming.method ?? 'GET', segments, url.searchParams, body).catch((error: unknown): Reply => {
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
export function isLedHere({
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

async function route(
  gateway: Gateway,
  policy: Policy,
  method: string,
  segments: readonly string[],
  query: URLSearchParams,
  body: unknown,
): Promise<Reply> {
  const [collection, id, action] = segments
  if (method === 'GET' && collection === 'status' && id === undefined) return { status: 200, body: await statusOf(gateway, policy) }
  if (method === 'GET' && collection === 'alerts' && id === undefined)
    return { status: 200, body: { alerts: gateway.alerts.newestFirst(limitOf(query)) } }
  if (method === 'GET' && collection === 'ledger' && id === undefined)
    return { status: 200, body: await ledgerPage(gateway.store, { after: afterOf(query), limit: limitOf(query) }) }
  if (method === 'POST' && collection === 'balances' && id === undefined) {
    const parsed = BalancesQuerySchema.safeParse(body)
    if (!parsed.success) return invalid(parsed.error)
    return { status: 200, body: { balances: await accountBalances(gateway.store, parsed.data.accounts, gateway.nowMs()) } }
  }
  if (method === 'GET' && collection === 'users' && id === undefined) return await usersPage(gateway, policy, query, limitOf(query))
  if (collection === 'users' && id !== undefined && id !== '') {
    const user = gateway.hasher.user(policy.config, id)
    if (method === 'GET' && action === undefined) return await userStanding(gateway, policy, user, query)
    if (method === 'GET' && action === 'history') return await history(gateway, policy, user, query)
    return method === 'DELETE' && action === undefined ? await forget(gateway, user) : notFound('no such resource')
  }
  if (collection !== 'conversations') return notFound('no such resource')
  if (id === undefined)
    return method === 'GET'
      ? { status: 200, body: { conversations: await newestStandings(gateway, policy, limitOf(query)) } }
      : notFound('no such resource')
  const conversation = await find(gateway, policy, { id, tier: askedFor(query, 'tier'), user: askedFor(query, 'user') })
  if (conversation === null) {
    // A sidecar that is alone does not know those of others.
    if (gateway.storeStanding().state !== 'Ready') throw new StoreError('away', 'whether there is such a conversation cannot be told')
    return notFound('no such conversation')
  }
  const terms = await termsOf(gateway, policy, conversation)
  if (terms === null) return notFound('the contract of this conversation is gone')
  if (method === 'GET' && action === undefined) return { status: 200, body: await standing(gateway, policy, conversation, terms) }
  if (method !== 'POST') return notFound('no such resource')
  switch (action) {
    case 'boundary':
      await tellBoundary(gateway, conversation)
      return { status: 200, body: { status: 'ok' } }
    case 'resolution':
      return await resolve(gateway, policy, conversation, body)
    case 'reopen':
      return await reopen(gateway, policy, conversation, terms)
    case 'costs':
      return await addCost(gateway, policy, conversation, terms, body)
    default:
      return notFound('no such resource')
  }
}

/** What the user and the assistant said, best first; newest first without a query. */
async function history(gateway: Gateway, policy: Policy, user: UserId, query: URLSearchParams): Promise<Reply> {
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

async function resolve(gateway: Gateway, { config }: Policy, conversation: Conversation, body: unknown): Promise<Reply> {
  const parsed = ResolutionBody.safeParse(body)
  if (!parsed.success) return invalid(parsed.error)
  const status =
    parsed.data.outcome === 'confirmed'
      ? await confirmResolution(gateway, conversation)
      : await reverseResolution(gateway, conversation, config.resolution)
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
async function tellBoundary(gateway: Gateway, conversation: Conversation): Promise<void> {
  const nowMs = gateway.nowMs()
  const change: ConversationChange = {
    ofSession: conversation.session,
    atTaskBoundary: { is: true, atMs: toldAt(nowMs, conversation.boundaryAtMs) },
  }
  await gateway.store.update({ conversation: conversation.id, change, nowMs })
}

/** Gives back what remained, no more: the budget of the session is what it was. Within the reopen window it takes a resolution back. */
async function reopen(gateway: Gateway, policy: Policy, conversation: Conversation, terms: Terms): Promise<Reply> {
  await reverseResolution(gateway, conversation, policy.config.resolution)
  const nowMs = gateway.nowMs()
  const change: ConversationChange = {
    ofSession: conversation.session,
    state: { is: 'open', atMs: toldAt(nowMs, conversation.stateAtMs) },
  }
  const updated = await gateway.store.update({ conversation: conversation.id, change, nowMs })
  return { status: 200, body: await standing(gateway, policy, updated?.conversation ?? conversation, terms) }
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

/** What every engine of the books takes, and tells from every other text. */
function storable(lengthMax: number): z.ZodType<string> {
  return z
    .string()
    .min(1)
    .max(lengthMax)
    .refine((text) => text.isWellFormed() && !/\p{Cc}/u.test(text), 'must be without control characters and halves of surrogate pairs')
}

async function addCost(gateway: Gateway, policy: Policy, conversation: Conversation, terms: Terms, body: unknown): Promise<Reply> {
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
    await fireAlerts(gateway, conversation, terms, draws)
  }
  return { status: 200, body: { status } }
}

/** Alerts that a cost has reached, as a turn's settlement would fire them. */
async function fireAlerts(gateway: Gateway, conversation: Conversation, terms: Terms, draws: readonly CapDraw[]): Promise<void> {
  const nowMs = gateway.nowMs()
  const { accounts } = await gateway.store.read({ conversation: conversation.id, accounts: draws.map((draw) => draw.account), nowMs })
  const counted = balancesOf(draws, accounts).filter(({ kind }) => kind !== 'workload')
  const percent = percentUsed(counted.map(({ cap, state }) => ({ cap, account: state })))
  const change = { ofSession: conversation.session, addAlerts: terms.contract.alerts.filter((threshold) => threshold <= percent) }
  const updated = await gateway.store.update({ conversation: conversation.id, change, nowMs })
  reportAlerts({ gateway, terms, conversationId: conversation.id, conversation }, updated?.firedAlerts ?? [])
}

type Reading = Pick<Gateway, 'contracts' | 'nowMs'> & { readonly store: Pick<BudgetStore, 'listConversations' | 'read'> }

/** Newest first; without those whose contract is gone. */
export async function newestStandings(
  gateway: Reading,
  policy: Pick<Policy, 'config' | 'budgetKey'>,
  limit: number,
): Promise<readonly Standing[]> {
  const conversations = await gateway.store.listConversations({ limit, nowMs: gateway.nowMs() })
  const standings: Standing[] = []
  for (let from = 0; from < conversations.length; from += READS_AT_ONCE) {
    const batch = conversations.slice(from, from + READS_AT_ONCE).map(async (conversation) => {
      const terms = await termsOf(gateway, policy, conversation)
      return terms === null ? null : await standing(gateway, policy, conversation, terms)
    })
    standings.push(...(await Promise.all(batch)).filter((one) => one !== null))
  }
  return standings
}

async function standing(
  gateway: Reading,
  policy: Pick<Policy, 'budgetKey'>,
  conversation: ListedConversation,
  terms: Terms,
): Promise<Standing> {
  const nowMs = gateway.nowMs()
  const draws = drawsOf({
    terms,
    conversation: conversation.id,
    session: conversation.session,
    user: conversation.user,
    budgetKey: policy.budgetKey,
    limits: [],
    nowMs,
  })
  const { accounts } = await gateway.store.read({
    conversation: conversation.id,
    accounts: [sessionAccount(conversation.id, conversation.session), ...draws.map((draw) => draw.account)],
    nowMs,
  })
  return standingOf(conversation, terms, balancesOf(draws, accounts))
}

/** `user`: whose it is, where it is named by a `prompt_cache_key`, which many may share; as the app names them. */
interface Asked {
  readonly id: string
  readonly tier: string | null
  readonly user: string | null
}

/** By the id that the app uses, in the tier named or any allowed one (the one with the latest turn); or by its hash. */
async function find(gateway: Gateway, policy: Policy, { id, tier, user }: Asked): Promise<Conversation | null> {
  const tiers = tier === null ? policy.config.tiers.allowed : [tier]
  const owners = user === null ? [null] : [null, user]
  const ids = tiers.flatMap((name) => owners.map((owner) => gateway.hasher.conversation(policy.config, name, id, owner)))
  if (HASHED_ID.test(id)) ids.push(id)
  let newest: Conversation | null = null
  for (const candidate of ids) {
    const { conversation } = await gateway.store.read({ conversation: candidate, accounts: [], nowMs: gateway.nowMs() })
    if (conversation !== null && (newest === null || conversation.lastTurnAtMs > newest.lastTurnAtMs)) newest = conversation
  }
  return newest
}

async function termsOf(
  { contracts }: Reading,
  { config }: Pick<Policy, 'config'>,
  conversation: Pick<Conversation, 'contractHash' | 'tier'>,
): Promise<Terms | null> {
  const pinned = await contracts.pinned(conversation.contractHash)
  if (pinned !== null) return pinned
  const newest = config.contracts[conversation.tier]
  return newest === undefined ? null : await contracts.newest(newest)
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

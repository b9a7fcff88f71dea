/**
 * Summaries between turns: made after the answer that crossed a threshold, so that no user waits, one at a time per conversation (of all
 * sidecars that share a store, while it is there), by the tier's cheap model with the credential that the turn went out with, which is kept
 * nowhere. The cost is held and settled in the conversation's budget. The edit waits in the conversation until its next user turn begins.
 */
import { LRUCache } from 'lru-cache'
import type { PricedModel, Prices } from '@farebox/crds/prices.ts'
import { pricesAt } from '@farebox/crds/regions.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import { EMPTY_ACCOUNT } from '../core/budget.ts'
import type { Draw } from '../core/budget.ts'
import type { Conversation } from '../core/conversation.ts'
import { COST_MAX, costOfAnswer } from '../core/cost.ts'
import { isAnyReady } from '../core/edit-log.ts'
import type { Cut } from '../core/edit-log.ts'
import { cutEdit, planCut } from '../core/history-cut.ts'
import type { CutPlan } from '../core/history-cut.ts'
import { percentUsed, rungsAt, thresholdsApply } from '../core/ladder.ts'
import { bytesOf, contentText, isAnyOnlyNamed, isInstruction, readOwn } from '../core/message.ts'
import type { Plan } from '../core/plan.ts'
import { asWritten } from '../core/provider-cache.ts'
import { watchedAlerts } from '../core/reached-percents.ts'
import { NO_HOSTED_TOOLS } from '../core/request.ts'
import type { JsonObject, Message, ModelRequest } from '../core/request.ts'
import { awaitedSummary, joinedToReset, withSummary } from '../core/reset.ts'
import { chosenByAccount } from '../core/service-tier.ts'
import { endsWithNextTurn } from '../core/sessions.ts'
import {
  cachedPercentOf,
  costLike,
  expectedFurtherCalls,
  summaryDraw,
  summaryHold,
  summaryMessage,
  summaryPrompt,
  summaryTokensOf,
  worthSummarising,
} from '../core/summary.ts'
import type { SummaryHold } from '../core/summary.ts'
import { downgradeFor } from '../core/swap.ts'
import { balancesOf, remainingOf, summariesAccount } from '../core/terms.ts'
import { windowFills } from '../core/window.ts'
import type { ReserveAnswer, SettleStep, Snapshot } from '../store/store.ts'
import { untilBack } from '../store/until-back.ts'
import type { Admitted } from './admit.ts'
import { noteOf, sentHeaders } from './exchange.ts'
import type { Turn } from './exchange.ts'
import type { Gateway } from './gateway.ts'
import { headersOfSender, withHeaders } from './headers.ts'
import { refusalOf } from './next-session.ts'
import { reportMoney } from './report.ts'
import { accountOf } from './served-tiers.ts'
import { modelKey } from './usage-refusals.ts'
import { callWhole } from './whole-call.ts'

/** With less left than holds so many calls, the next may not fit any more: a history of which most is cached costs far less than it holds. */
const HOLDS_LEFT_MIN = 2n
/** For a model that reasons, asked to do so as little as it can, beside the summary itself. */
const THINKING_TOKENS = 1_024
/** Where no summary came of old turns, another is tried when they have grown so many times. */
const AGAIN_FACTOR = 2
const FAILED_KEPT = 1_000
/** So many summaries wait for a history that has not come again: the app may well send none twice alike. */
const UNREAD_MAX = 8
/** What the same call would be answered again; others pass (a rate that was exceeded, a server that is busy). */
const FINAL_REFUSALS: ReadonlySet<number> = new Set([400, 401, 403, 404, 413, 422])
const ANSWER_BYTES_MAX = 1024 * 1024

export class Summariser {
  readonly #gateway: () => Gateway
  readonly #underWay = new Set<string>()
  /** How long the old turns were of which no summary came, by conversation. */
  readonly #failed = new LRUCache<string, number>({ max: FAILED_KEPT })

  constructor(gateway: () => Gateway) {
    this.#gateway = gateway
  }

  /**
   * Starts a summary when one is wanted and pays. Returns at once; what becomes of it is counted and logged. `answer`: what the turn
   * was answered, where it was kept; `callsTools`: the answer does, and the turn goes on. True: the turn's request is looked at further.
   */
  consider(admitted: Admitted, snapshot: Snapshot, answer: Message | null, callsTools: boolean): boolean {
    const { turn } = admitted
    const conversation = snapshot.conversation
    if (conversation === null || turn.policy.config.mode === 'Observe' || this.#underWay.has(conversation.id)) return false
    // Where the history goes out as it comes, nobody would read the summary.
    if (turn.gateway.uneditable.has(conversation.id) || waiting(conversation) >= UNREAD_MAX) return false
    const task = plannedTask(admitted, conversation, snapshot, { answer, callsTools })
    if (task === null || task.oldTokens < (this.#failed.get(conversation.id) ?? 0) * AGAIN_FACTOR) return false
    this.#underWay.add(conversation.id)
    turn.place.share()
    turn.gateway.underWay.add(this.#attempt(turn, conversation, task))
    return true
  }

  /** Never throws: no turn waits for it. */
  async #attempt(turn: Turn, conversation: Conversation, task: SummaryTask): Promise<void> {
    const { metrics, log } = this.#gateway()
    try {
      const outcome = await this.#make(turn, conversation, task)
      if (outcome === 'blank' || outcome === 'refused') this.#failed.set(conversation.id, task.oldTokens)
      else if (outcome === 'made') this.#failed.delete(conversation.id)
      metrics.summaries.add([conversation.tier, outcome])
      log.info({ conversation: conversation.id, tier: conversation.tier, outcome }, 'summary between turns')
    } catch (error) {
      metrics.summaries.add([conversation.tier, 'failed'])
      log.error({ conversation: conversation.id, err: String(error) }, 'a summary failed')
    } finally {
      this.#underWay.delete(conversation.id)
      turn.place.leave()
    }
  }

  /** `elsewhere`: another sidecar makes it, or just did; `refused`: it would be again; `failed`: it may well not be. */
  async #make(
    turn: Turn,
    conversation: Conversation,
    task: SummaryTask,
  ): Promise<'made' | 'elsewhere' | 'unaffordable' | 'refused' | 'failed' | 'blank'> {
    const { gateway, terms } = turn
    // Also of one that is free, so that other sidecars see that it is under way.
    const hold = task.hold > 0n ? task.hold : 1n
    const apart = await drawsApart(turn, conversation, hold)
    if (apart === null) return 'elsewhere'
    const operationId = gateway.newId()
    const accounts = turn.draws.map((draw) => draw.account)
    const note = noteOf({ conversation, user: turn.user, terms }, task.priced.model, 'summary')
    const reserved = await gateway.store.reserve({
      conversation: conversation.id,
      initial: conversation,
      seen: { contractHash: conversation.contractHash, user: conversation.user, session: conversation.session },
      change: {},
      isFirst: true,
      reservation: {
        operationId,
        // What it costs beyond its price is not the budgets' to find.
        draws: [...turn.draws.map(({ account, cap }) => ({ account, cap: cap + hold - task.hold })), ...apart],
        input: task.inputCost,
        atLeast: hold,
        atMost: hold,
        expiresAtMs: gateway.holds.expiryMs(),
        note,
      },
      nowMs: gateway.nowMs(),
    })
    if (reserved.status !== 'held') return isShortOf(reserved, apart) ? 'elsewhere' : 'unaffordable'
    gateway.holds.add(operationId)
    try {
      const answer = await call(turn, task)
      if (answer.status === 'void') {
        const atMs = gateway.nowMs()
        await untilBack(() => gateway.store.void({ operationId, atMs }))
        return answer.isFinal ? 'refused' : 'failed'
      }
      const read = answer.body === null ? null : turn.wire.readAnswer(answer.body, summaryRequest(turn.request))
      const usage = read?.facts.usage ?? null
      gateway.servedTiers.saw(turn.upstream, task.model, accountOf(turn), chosenByAccount(null, read?.facts.serviceTier ?? null))
      const billed =
        usage === null || read === null ? null : costOfAnswer({ ...read.facts, usage, others: [] }, task.priced, () => task.priced)
      const cost = billed === null || billed > COST_MAX ? task.hold : billed
      const text = read?.message === null || read?.message === undefined ? '' : contentText(read.message)
      const message = summaryMessage({
        text,
        plan: task.plan,
        maxTokens: task.maxTokens,
        tokensBefore: task.oldTokens,
        tokensAfter: usage?.output ?? task.maxTokens,
      })
      const edit = message === null ? null : await editOf(turn, conversation, task, message)
      const nowMs = gateway.nowMs()
      const step: SettleStep = {
        settlement: {
          operationId,
          cost,
          atMs: nowMs,
          note: {
            ...note,
            // As a provider's bill has it; an answer may tell half of a surrogate pair, which not every store can read in what it keeps.
            model: (read?.facts.model ?? task.priced.model).toWellFormed(),
            drivers: { summaries: cost },
            usage: usage ?? usageOf({}),
            source: usage === null ? 'estimated' : 'exact',
          },
        },
        conversation: conversation.id,
        change: {
          ofSession: conversation.session,
          addDrivers: { summaries: cost },
          ...(edit === null ? {} : { addReadyEdits: [edit] }),
        },
        chain: [],
        alerts: watchedAlerts(turn.draws, terms.contract.alerts),
      }
      const settled = await untilBack(() => gateway.store.settle(step))
      reportMoney(turn, task.priced, settled, { cost, usage })
      return edit === null ? 'blank' : 'made'
    } finally {
      gateway.holds.remove(operationId)
      gateway.queue.wakeNext(accounts)
    }
  }
}

/**
 * What a summary draws on beside the budgets, so that no other sidecar makes one meanwhile. Nothing where there is no other, or none that can
 * be seen: while the store is away each goes on by itself. Null: another makes one, or has made one since the turn ended.
 */
async function drawsApart({ gateway, request }: Turn, { id }: Conversation, hold: NanoUsd): Promise<readonly Draw[] | null> {
  if (!gateway.storeIsShared || gateway.storeStanding().state !== 'Ready') return []
  const account = summariesAccount(id)
  const { conversation, accounts } = await gateway.store.read({ conversation: id, accounts: [account], nowMs: gateway.nowMs() })
  if (conversation !== null && isAnyReady(request, conversation)) return null
  const draw = summaryDraw(id, accounts.get(account) ?? EMPTY_ACCOUNT, hold)
  return draw === null ? null : [draw]
}

/** Whether it was one of these draws for which there was no room. */
function isShortOf(answer: ReserveAnswer, draws: readonly Draw[]): boolean {
  return (answer.status === 'busy' || answer.status === 'exceedsCap') && draws.some(({ account }) => account === answer.account)
}

/** Of the turn's request, what the call for a summary has of it: it asks once, for no search and no cache. */
function summaryRequest(request: ModelRequest): ModelRequest {
  return { ...request, choices: 1, hosted: NO_HOSTED_TOOLS, cacheWrites: 'none' }
}

interface SummaryTask extends SummaryHold {
  /** As it is asked for. */
  readonly model: string
  readonly plan: CutPlan
  /** The reset whose recap it is to be; null: it takes the place of old turns. */
  readonly reset: Cut | null
  readonly priced: PricedModel
  readonly path: string
  readonly body: Buffer
  readonly maxTokens: number
  readonly oldTokens: number
}

/** Where the summary goes: in the place of old turns, or into the message of a reset, be it one that happened meanwhile. */
async function editOf(turn: Turn, conversation: Conversation, { plan, reset }: SummaryTask, message: JsonObject): Promise<Cut> {
  const { gateway } = turn
  const id = gateway.newId()
  const summary = readOwn(JSON.stringify(message))?.text ?? ''
  if (reset !== null) return withSummary(reset, summary, id)
  const query = { conversation: conversation.id, accounts: [] }
  const { conversation: now } = await untilBack(() => gateway.store.read({ ...query, nowMs: gateway.nowMs() }))
  const isPast = now !== null && now.session !== conversation.session
  return (
    (isPast ? joinedToReset([...now.edits, ...now.readyEdits], { plan, summary, id }) : null) ?? cutEdit(plan, 'Summarize', message, id)
  )
}

/** Null when no summary is wanted, none can be afforded, or none pays. */
function plannedTask(
  admitted: Admitted,
  conversation: Conversation,
  snapshot: Snapshot,
  { answer, callsTools }: { readonly answer: Message | null; readonly callsTools: boolean },
): SummaryTask | null {
  const { turn, plan } = admitted
  const { terms, policy, request } = turn
  const { contract } = terms
  const exact = conversation.exact
  const sentTokens = exact?.inputTokens ?? plan.bound.heuristic
  const crossing = windowFills(contract.context, measuredTokens(admitted, sentTokens))
  const percent = percentOf(turn, snapshot)
  const recap = isRecapDue(turn, conversation, percent)
  // What these sum up is not read any more in any case: it is no matter of saving.
  const awaited = contract.sessions.recap === 'Summary' ? awaitedSummary(request, conversation.edits) : null
  const isLast =
    mayEndWithRecap(contract) &&
    (answer === null || answer.toolCalls.length === 0) &&
    endsWithNextTurn(conversation, contract) &&
    refusalOf(turn, conversation) === null
  const isNeeded = awaited !== null || isLast || crossing || recap
  // In the middle of a turn it would come too late: a cut waits for the next one.
  const isWanted =
    isNeeded ||
    (!isCutAnew(plan) && (isOnRung(turn, conversation, percent) || (!callsTools && mayNotFit(admitted, conversation, snapshot))))
  if (!isWanted || isAnyReady(request, conversation)) return null
  const keepRecentTurns = isLast ? 1 : contract.context.keepRecentTurns
  const found = awaited?.plan ?? planCut({ request, edits: conversation.edits, keepRecentTurns })
  if (found === null) return null
  const cut = isLast ? withLastTurn(found, request, answer) : found
  // It would take the place of words that nobody here has read.
  if (isAnyOnlyNamed(cut.messages)) return null

  const downgrade = downgradeFor(contract.models.downgrades, request.model)
  const isHere = downgrade !== null && (downgrade.upstream === undefined || downgrade.upstream === turn.upstream.name)
  const name = contract.models.summarizer ?? (isHere ? downgrade.to : request.model)
  const nowMs = turn.gateway.nowMs()
  const priced = pricesAt(policy.prices, turn.upstream).find(turn.upstream.provider, name, nowMs)
  if (priced === null) return null
  const sentBytes = (awaited?.currentBytes ?? found.currentBytes) + found.keptBytes + request.fixedBytes
  const tokensOf = (bytes: number): number => Math.ceil((sentTokens * bytes) / Math.max(1, sentBytes))
  const oldTokens = tokensOf(cut.currentBytes)
  // Where it must be short, whatever it saves, notes do not add up.
  const notesTokens = isNeeded ? 0 : tokensOf(cut.notesBytes)
  const maxTokens = summaryTokensOf({ newTokens: oldTokens - notesTokens, notesTokens })
  const remaining = unheldOf(turn, snapshot)
  const prices = pricesOf(admitted, sentTokens)
  const leadTokens = tokensOf(request.fixedBytes + cut.keptBytes - cut.tailBytes)
  const verdict = worthSummarising({
    oldTokens,
    notesTokens,
    calls: cut.answers,
    summaryTokens: maxTokens,
    tailTokens: tokensOf(cut.tailBytes),
    model: prices,
    summarizer: priced.pricesFor(oldTokens, null),
    cachedPercent: cachedPercentOf({ cachedTokens: exact?.cachedTokens ?? 0, leadTokens, oldTokens }),
    expectedCalls: expectedFurtherCalls({
      turns: conversation.turns,
      remaining,
      lastCost: exact === null ? plan.inputCost : costLike(exact, prices),
    }),
    // A recap need not save anything in this session: the next one loses the history in any case.
    crossing: crossing || recap,
  })
  if (!verdict.worth && awaited === null && !isLast) return null
  const prompt = summaryPrompt({ plan: cut, maxTokens, locale: null })
  const factor = turn.gateway.factors.factorOf(name)
  const accountTier = turn.gateway.servedTiers.find(turn.upstream, name, accountOf(turn))
  // What a model thinks counts against the bound, before a word of the summary.
  const boundTokens = maxTokens + (priced.capabilities.reasoning ? THINKING_TOKENS : 0)
  const money = summaryHold({ prompt, model: name, factor, accountTier, priced, maxTokens: boundTokens, remaining })
  const limitField = turn.gateway.limitFields.get(modelKey(turn.upstream, name))
  const asked = turn.wire.prompt({
    ...prompt,
    model: name,
    maxTokens: boundTokens,
    ...(limitField === undefined ? {} : { limitField }),
    call: turn.call,
  })
  return money === null || asked === null
    ? null
    : { plan: cut, reset: awaited?.reset ?? null, model: name, priced, ...asked, maxTokens, oldTokens, ...money }
}

/** Its sessions end after a number of turns, and the next one is promised a recap: the answer of a turn may become part of it. */
export function mayEndWithRecap({ sessions }: Pick<Contract, 'sessions'>): boolean {
  return sessions.recap === 'Summary' && sessions.maxTurns !== undefined
}

/** What a recap is made from: of the turn that is just over, which no cut may cover yet, the next session has nothing else. */
function withLastTurn(cut: CutPlan, { messages }: ModelRequest, answer: Message | null): CutPlan {
  const last = messages.slice(cut.leading + cut.count).filter((message) => !isInstruction(message))
  const read = [...cut.messages, ...last, ...(answer === null ? [] : [answer])]
  return { ...cut, turns: cut.turns + 1, messages: read, currentBytes: bytesOf(read) }
}

function percentOf(turn: Turn, snapshot: Snapshot): number {
  const balances = balancesOf(turn.draws, snapshot.accounts).filter((balance) => balance.kind !== 'workload')
  return percentUsed(balances.map(({ cap, state }) => ({ cap, account: state })))
}

/** The rung is in effect, or its threshold is reached now. */
function isOnRung(turn: Turn, conversation: Conversation, percent: number): boolean {
  const active = [
    ...conversation.rungs,
    ...(conversation.userRungs?.rungs ?? []),
    ...(thresholdsApply(conversation, turn.terms.contract) ? rungsAt(turn.terms.contract.ladder, percent) : []),
  ]
  return active.includes('Summarize')
}

/**
 * What the window is measured by. Where the count before this call did not serve for it (tools of another size, a model of another tokenizer),
 * the count of this one hardly serves for the next, which is estimated as this one was.
 */
function measuredTokens({ turn, plan }: Admitted, sentTokens: number): number {
  const isServed = plan.bound.isCounted || turn.conversation.exact === null || isCutAnew(plan)
  return isServed ? sentTokens : Math.max(sentTokens, plan.bound.heuristic)
}

/** The first call with a cut finds no cache behind it, which is no measure of the calls that follow. */
function isCutAnew({ promoted, shaped }: Plan): boolean {
  return [...promoted, ...shaped.newEdits].some(({ kind }) => kind === 'cut')
}

/** The ladder summarises before it ends, and a call like this one will soon find no room: one summary before that keeps the conversation going. */
function mayNotFit({ turn, plan }: Admitted, conversation: Conversation, snapshot: Snapshot): boolean {
  const { contract } = turn.terms
  if (!thresholdsApply(conversation, contract) || !contract.ladder.some(({ rung }) => rung === 'Summarize')) return false
  return remainingOf(balancesOf(turn.draws, snapshot.accounts)) < HOLDS_LEFT_MIN * plan.atLeast
}

/** Of the model that answers, with what this request has written into the cache. */
function pricesOf({ turn, plan }: Admitted, inputTokens: number): Prices {
  return asWritten(turn.request, plan.priced.pricesFor(inputTokens, null))
}

/** The next session will want a recap, and this one has made no summary that could serve. */
function isRecapDue(turn: Turn, conversation: Conversation, percent: number): boolean {
  const { ladder, sessions } = turn.terms.contract
  const end = ladder.find((step) => step.rung === 'EndConversation')
  const before = ladder.findLast((step) => step.rung !== 'EndConversation')
  if (end?.end !== 'Reset' || sessions.recap !== 'Summary' || percent < (before?.atPercent ?? RECAP_PERCENT)) return false
  const latest = conversation.edits.findLast((edit) => edit.kind === 'cut' && edit.cause !== 'DropOldest')
  return latest?.kind !== 'cut' || latest.cause !== 'Summarize'
}

/** Where the ladder has no other step, a recap is prepared from here on. */
const RECAP_PERCENT = 80

function unheldOf(turn: Turn, snapshot: Snapshot): NanoUsd {
  const free = balancesOf(turn.draws, snapshot.accounts).map(({ cap, state }) => cap - state.spent - state.held)
  return free.reduce((least, amount) => (amount < least ? amount : least), free[0] ?? 0n)
}

type CallResult = { readonly status: 'void'; readonly isFinal: boolean } | { readonly status: 'answered'; readonly body: Buffer | null }

/** Summaries that may still come into force: what is cut already is cut by a wider one from then on. */
function waiting({ edits, readyEdits }: Conversation): number {
  const last = edits.findLast((edit) => edit.kind === 'cut')
  const cutAlready = last?.kind === 'cut' ? last.count : 0
  return readyEdits.filter((edit) => edit.kind === 'cut' && edit.count > cutAlready).length
}

/** Makes it. `void`: nothing is billed; a null body: nobody knows what is. */
async function call(turn: Turn, { path, body }: Pick<SummaryTask, 'path' | 'body'>): Promise<CallResult> {
  const { gateway, upstream } = turn
  const headers = ['content-type', 'application/json', ...withHeaders(headersOfSender(sentHeaders(turn)), turn.upstreamHeaders.raw)]
  const asked = { baseUrl: upstream.baseUrl, path, method: 'POST', headers, body }
  const answer = await callWhole(gateway.upstreams, asked, { bytesMax: ANSWER_BYTES_MAX })
  if (answer.status === 'failed') return answer.kind === 'connect' ? { status: 'void', isFinal: false } : { status: 'answered', body: null }
  const { statusCode } = answer
  if (statusCode >= 200 && statusCode < 300) return { status: 'answered', body: answer.body }
  return { status: 'void', isFinal: FINAL_REFUSALS.has(statusCode) }
}

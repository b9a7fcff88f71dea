/**
 * One provider call from its request to its settlement. Whatever way it ends, the hold ends once: settled by the
 * provider's word, settled by what was seen of a broken answer, given back, or charged whole.
 */
import { rungTold } from '../core/ladder.ts'
import type { Message } from '../core/request.ts'
import { isLimitField } from '../core/output-limit.ts'
import type { LimitField } from '../core/output-limit.ts'
import { errorNames } from '../wire/error-names.ts'
import { JsonOutline } from '../wire/json-outline.ts'
import { Pieces } from '../wire/pieces.ts'
import type { AnswerStream, Objection, ReadAnswer, WireFacts } from '../wire/wire.ts'
import type { Admitted, SwapRefusal } from './admit.ts'
import { AnswerCost, GAUGED_BYTES_MAX, NOTHING_SEEN, seenOfPlain, seenOfStream } from './answer-cost.ts'
import type { AnswerWorth, SeenAnswer } from './answer-cost.ts'
import { refuse, secretsOf, stateHeaders } from './exchange.ts'
import type { Turn } from './exchange.ts'
import { rawHeader, responseHeaders } from './headers.ts'
import { bytesWithoutSecrets, ERROR_BODY_BYTES_MAX } from './held-key.ts'
import type { Refusal } from '../errors.ts'
import { LastBytes } from './last-bytes.ts'
import { release } from './release.ts'
import { addressedTo, changeOf, servedBy } from './sent-request.ts'
import type { ChangeOptions, Served } from './sent-request.ts'
import { outcomeOfStatus } from '../telemetry/metrics.ts'
import type { ProviderOutcome } from '../telemetry/metrics.ts'
import { StreamedAnswer } from './streamed-answer.ts'
import { REDIRECT_MESSAGE } from './upstream.ts'
import type { UpstreamFailure, UpstreamHandle } from './upstream.ts'

/** A plain answer is kept up to this size; a longer one passes on, and is settled by what it says beside its long strings. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024
/** From this size on, what is kept of a plain answer takes room as the bodies of requests do: pictures and sound, not talk. */
const COUNTED_BYTES_MIN = 256 * 1024
/** A plain answer up to this size, when it comes in one piece, is sent in one. */
const ONE_WRITE_BYTES_MAX = 64 * 1024
/** Of a provider that can be reached, and may have begun to write. */
const BROKEN_OFF = 'The model provider broke the connection before it answered; it may bill the call.'
/** Clients that left while their answer is drained, at most; more are cancelled. */
const DRAINS_MAX = 64

/** Notices that this answer should carry, as one text; null: none. */
export interface AnswerNotice {
  readonly text: string
  readonly ids: readonly string[]
}

interface SettledCall extends AnswerWorth {
  readonly status: 'settle'
  readonly facts: WireFacts | null
  readonly message: Message | null
  /** All that was said, in order. */
  readonly messages: readonly Message[]
  /** Answers beside it, where several were asked for. */
  readonly alternatives: readonly Message[]
  readonly noticed: boolean
  /** No write of the request's body is under way. */
  readonly isSent: boolean
}

/** How a call ended, for whoever settles it and goes on. */
export type CallEnd =
  | SettledCall
  /** Nothing will be billed. `objection`: of an error that was passed on, what it is about where that may be a change of ours. */
  | { readonly status: 'void'; readonly objection?: Objection }
  /** Nobody knows what will be billed: the hold is charged. */
  | { readonly status: 'charge' }
  /** The provider objects to what we changed: nothing was billed, nothing was answered, try again without. */
  | { readonly status: 'retry'; readonly without: Exclude<Objection, 'limitField' | 'swap'> }
  | { readonly status: 'retry'; readonly without: 'swap'; readonly why: SwapRefusal }
  | { readonly status: 'retry'; readonly without: 'limitField'; readonly field: LimitField }

export interface CallOptions extends ChangeOptions {
  readonly notice: AnswerNotice | null
  readonly collect: boolean
  /** Where the provider objects to the history as we edited it, it may go out in a second attempt as it came. */
  readonly mayUndoEdits: boolean
}

export interface Forwarded {
  readonly end: CallEnd
  /** To be released when the call is in the books. */
  readonly last: LastBytes
}

/** Sends the call, passes the answer on but for its last bytes, and says how it ended. Never rejects. */
export function forward(admitted: Admitted, options: CallOptions): Promise<Forwarded> {
  const last = new LastBytes(admitted.turn.gateway.storeIsShared)
  return new Promise((resolve) => new Call(admitted, options, last, (end) => resolve({ end, last })).start())
}

type Reading =
  /** `answer` is null for a client that has left. */
  | { readonly kind: 'stream'; readonly stream: AnswerStream; readonly answer: StreamedAnswer | null }
  /** `announced`: the length of the whole answer by its head; 0 when it says none. */
  | {
      readonly kind: 'plain'
      readonly pieces: Pieces
      bytes: number
      readonly announced: number
      /** Of an answer that waits for its end, so that a notice can be added; null: it is out. */
      unsentHead: { readonly statusCode: number; readonly headers: readonly string[] } | null
      /** Of an answer that is too long to be kept; its `pieces` are a sample then. */
      outline: JsonOutline | null
      /** Its last piece, which is sent with its end. */
      unsent: Buffer | null
    }
  | {
      readonly kind: 'error'
      readonly statusCode: number
      readonly headers: string[]
      readonly pieces: Pieces
      bytes: number
      passing: boolean
    }

class Call {
  readonly #admitted: Admitted
  readonly #turn: Turn
  readonly #options: CallOptions
  readonly #last: LastBytes
  readonly #resolve: (end: CallEnd) => void
  #handle: UpstreamHandle | null = null
  #reading: Reading | null = null
  #over = false
  #clientGone = false
  /** How the call ended at the provider, as far as it has come. */
  #outcome: ProviderOutcome = 'left'
  #draining = false
  #isSent = false
  /** The field that bounds the output, where the client did not write it. */
  #ownLimitField: LimitField | null = null
  readonly #served: Served
  readonly #cost: AnswerCost

  constructor(admitted: Admitted, options: CallOptions, last: LastBytes, resolve: (end: CallEnd) => void) {
    this.#admitted = admitted
    this.#turn = admitted.turn
    this.#served = servedBy(admitted)
    this.#options = options
    this.#last = last
    this.#resolve = resolve
    this.#cost = new AnswerCost(admitted, this.#served.upstream)
  }

  start(): void {
    const { gateway, outgoing, request, wire, call } = this.#turn
    const { upstream } = this.#served
    if (outgoing.destroyed) return this.#finish({ status: 'void' })
    const change = changeOf(this.#admitted, this.#options)
    const field = change.outputLimit?.field ?? null
    if (field !== null && isLimitField(field) && field !== request.outputLimit?.field) this.#ownLimitField = field
    const body = wire.render(request, change, { ...call, upstream })
    const { headers, path } = addressedTo(this.#served, this.#turn, wire.path({ ...call, upstream }, change))
    outgoing.on('close', this.#onClientClose)
    outgoing.on('drain', this.#onClientDrain)
    gateway.metrics.inFlight.inc()
    this.#handle = gateway.upstreams.call(
      {
        baseUrl: upstream.baseUrl,
        path,
        method: 'POST',
        headers,
        body,
      },
      {
        sent: () => {
          this.#isSent = true
          if (body.buffer !== request.body.buffer) release(body)
        },
        head: (statusCode, rawHeaders) => this.#onHead(statusCode, rawHeaders),
        data: (chunk) => this.#onData(chunk),
        end: () => this.#onEnd(),
        failed: (failure) => this.#onFailed(failure),
      },
    )
  }

  #onHead(statusCode: number, rawHeaders: readonly string[]): void {
    const { gateway, startedUptimeMs, terms } = this.#turn
    const secrets = secretsOf(this.#served)
    this.#outcome = outcomeOfStatus(statusCode)
    if (statusCode < 200 || statusCode >= 300) {
      this.#reading = {
        kind: 'error',
        statusCode,
        headers: responseHeaders(rawHeaders, { lengthChanges: true, secrets }),
        pieces: new Pieces(),
        bytes: 0,
        passing: false,
      }
      return
    }
    gateway.metrics.headSeconds.observe([terms.contract.tier], (performance.now() - startedUptimeMs) / 1000)
    const isStream = (rawHeader(rawHeaders, 'content-type') ?? '').includes('text/event-stream')
    const { notice, injectUsage, collect } = this.#options
    if (isStream) {
      const { wire, request } = this.#turn
      const stream = wire.openStream({ request, stripUsage: injectUsage, notice: notice?.text ?? null, collect })
      this.#writeHead(statusCode, responseHeaders(rawHeaders, { lengthChanges: true, secrets }))
      const answer = this.#clientGone ? null : new StreamedAnswer(this.#turn.outgoing, this.#onClientDrain)
      this.#reading = { kind: 'stream', stream, answer }
      return
    }
    // A notice can only be added to a whole answer: then, and only then, it waits for its end.
    const waits = notice !== null
    const headers = responseHeaders(rawHeaders, { lengthChanges: waits, secrets })
    this.#reading = {
      kind: 'plain',
      pieces: new Pieces(),
      bytes: 0,
      announced: Number(rawHeader(rawHeaders, 'content-length') ?? 0),
      unsentHead: waits ? { statusCode, headers } : null,
      outline: null,
      unsent: null,
    }
    if (!waits) this.#writeHead(statusCode, headers)
  }

  #onData(chunk: Buffer): void {
    const reading = this.#reading
    switch (reading?.kind) {
      case 'stream':
        return this.#pass(reading, reading.stream.push(chunk))
      case 'plain': {
        const copy = Buffer.from(chunk)
        reading.bytes += copy.length
        if (this.#keeps(reading, copy.length)) reading.pieces.add(copy)
        else this.#outline(reading).push(copy)
        // With its end in hand, head and body leave in one write; and the last piece is the end for whoever counts bytes.
        const isAll = copy.length === reading.announced && copy.length <= ONE_WRITE_BYTES_MAX
        const isLast = reading.announced > 0 && reading.bytes >= reading.announced && reading.unsentHead === null
        if (isAll || (isLast && this.#last.waits)) reading.unsent = copy
        else if (reading.unsentHead === null) this.#write(copy)
        return
      }
      case 'error':
        reading.bytes += chunk.length
        if (reading.passing) this.#write(Buffer.from(chunk))
        else {
          reading.pieces.addCopy(chunk)
          if (reading.bytes > ERROR_BODY_BYTES_MAX) this.#passError(reading)
        }
        return
      case undefined:
        return
    }
  }

  /**
   * Whether so many bytes more of the answer are kept: as long as it is short, or there is room for it. One by which the conversation is
   * found again is kept all the same: whose the next turn is may not hang on how much others send.
   */
  #keeps({ bytes, outline }: Extract<Reading, { kind: 'plain' }>, more: number): boolean {
    if (outline !== null || bytes > ANSWER_BYTES_MAX) return false
    const { place } = this.#turn
    if (bytes <= COUNTED_BYTES_MIN || place.takeNow(more)) return true
    if (this.#options.collect) place.takeAnyway(more)
    return this.#options.collect
  }

  #onEnd(): void {
    const reading = this.#reading
    switch (reading?.kind) {
      case 'stream': {
        this.#pass(reading, reading.stream.end())
        this.#endAnswer()
        return this.#finish(this.#settled(reading.stream, reading.stream.noticeAdded && !this.#clientGone))
      }
      case 'plain':
        return this.#endPlain(reading)
      case 'error':
        return this.#endError(reading)
      case undefined:
        return this.#finish({ status: 'charge' })
    }
  }

  #endPlain(reading: Extract<Reading, { kind: 'plain' }>): void {
    if (reading.outline !== null) {
      this.#endAnswer(reading.unsent)
      return this.#finish(this.#settledLong(reading.outline))
    }
    const body = reading.pieces.whole()
    const { wire, request } = this.#turn
    const answer = wire.readAnswer(body, request)
    let noticed = false
    if (reading.unsentHead !== null) {
      const { statusCode, headers } = reading.unsentHead
      const spoken = wire.addNotice(body, this.#options.notice?.text ?? '')
      noticed = spoken.added && !this.#clientGone
      this.#writeHead(statusCode, [...headers, 'content-length', String(spoken.body.length)])
      reading.unsent = spoken.body
    }
    this.#endAnswer(reading.unsent)
    // What cannot be read may have lost any part of itself.
    if (!answer.readable) return this.#finish({ status: 'charge' })
    this.#finish(this.#settled(answer, noticed))
  }

  #endError(reading: Extract<Reading, { kind: 'error' }>): void {
    const { injectUsage, refusedLimitField, mayUndoEdits } = this.#options
    let passed: Objection | null = null
    if (!reading.passing && !this.#clientGone) {
      const text = reading.pieces.whole().toString('latin1')
      const objection = this.#turn.wire.objection(reading.statusCode, text)
      if (objection === 'limitField' && refusedLimitField === null && this.#ownLimitField !== null)
        return this.#finish({ status: 'retry', without: objection, field: this.#ownLimitField })
      // What the client wrote itself is no fault of ours, but that of the model which it now goes to may be.
      const isOwn = objection === 'limitField' || (objection === 'edits' && !mayUndoEdits)
      const without = isOwn ? 'swap' : objection
      if (without === 'edits' || (without === 'streamOptions' && injectUsage)) return this.#finish({ status: 'retry', without })
      if (without === 'swap' && this.#admitted.plan.swap !== null) {
        const why = { status: reading.statusCode, ...errorNames(text, this.#turn.request.fields) }
        return this.#finish({ status: 'retry', without, why })
      }
      passed = objection
    }
    this.#passError(reading)
    if (this.#over) return
    this.#endAnswer()
    this.#finish({ status: 'void', ...(passed === null ? {} : { objection: passed }) })
  }

  #onFailed(failure: UpstreamFailure): void {
    const { gateway, requestId } = this.#turn
    this.#outcome = failure.kind
    const upstream = this.#served.upstream.name
    const what = failure.kind === 'unread' ? 'the provider call is cancelled' : 'the provider call failed'
    gateway.log.warn({ requestId, upstream, kind: failure.kind, err: failure.cause.message }, what)
    if (failure.kind === 'connect') {
      this.#refuse({ code: 'upstream_unreachable' })
      return this.#finish({ status: 'void' })
    }
    if (this.#reading === null) {
      this.#refuse(failure.kind === 'timeout' ? { code: 'upstream_timeout' } : { code: 'upstream_unreachable', message: BROKEN_OFF })
      return this.#finish({ status: 'charge' })
    }
    this.#last.release() // what came is passed on,
    this.#turn.outgoing.destroy() // and the client sees the cut where it happened
    this.#finish(this.#reading.kind === 'error' ? { status: 'void' } : this.#partial())
  }

  readonly #onClientClose = (): void => {
    if (this.#over || this.#turn.outgoing.writableFinished) return
    this.#clientGone = true
    const { policy, gateway } = this.#turn
    if (policy.config.onDisconnect === 'Drain' && gateway.drains.count < DRAINS_MAX) {
      gateway.drains.count += 1
      this.#draining = true
      this.#handle?.resume()
      return
    }
    gateway.log.debug({ requestId: this.#turn.requestId }, 'the client left; the provider call is cancelled')
    const mayBill = this.#handle?.abort() === true && this.#reading?.kind !== 'error'
    this.#finish(mayBill ? this.#partial() : { status: 'void' })
  }

  readonly #onClientDrain = (): void => this.#handle?.resume()

  #settled(answer: Pick<ReadAnswer, 'facts' | 'message' | 'messages' | 'alternatives'>, noticed: boolean): CallEnd {
    const { facts, message, messages = message === null ? [] : [message], alternatives = [] } = answer
    const said = { facts, message, messages, alternatives, noticed }
    if (facts.usage === null) return { ...this.#partial(), ...said }
    const worth = this.#cost.ofUsage(facts.usage, facts)
    if (worth !== null) return { status: 'settle', ...worth, ...said, isSent: this.#isSent }
    this.#turn.gateway.metrics.doubts.add(['invalid'])
    return { status: 'charge' }
  }

  /** By what is known of an answer that was too long to be kept: its message is not. */
  #settledLong(outline: JsonOutline): CallEnd {
    const { wire, request } = this.#turn
    const said = outline.answer()
    const answer = said === null ? null : wire.readAnswer(said, request)
    return answer?.readable === true ? this.#settled({ facts: answer.facts, message: null }, false) : this.#partial()
  }

  #partial(): SettledCall {
    const seen = this.#seen()
    const said = { facts: seen.facts, message: null, messages: [], alternatives: [], noticed: false }
    return { status: 'settle', ...this.#cost.ofSeen(seen), ...said, isSent: this.#isSent }
  }

  #seen(): SeenAnswer {
    switch (this.#reading?.kind) {
      case 'stream':
        return seenOfStream(this.#reading.stream)
      case 'plain':
        return seenOfPlain(this.#reading.pieces.parts, this.#reading)
      default:
        return NOTHING_SEEN
    }
  }

  #writeHead(statusCode: number, headers: readonly string[]): void {
    const { outgoing } = this.#turn
    if (this.#clientGone || outgoing.headersSent) return
    const maxOutput = this.#turn.request.generates ? this.#admitted.outputTokens : null
    outgoing.writeHead(statusCode, [...headers, ...this.#stateHeaders(maxOutput)])
  }

  #stateHeaders(maxOutput: number | null): string[] {
    const { plan } = this.#admitted
    const rung = rungTold(plan)
    return stateHeaders(this.#turn, { rung: rung ?? 'None', percent: plan.percent, reason: rung === null ? null : plan.reason, maxOutput })
  }

  #pass({ stream, answer }: Extract<Reading, { kind: 'stream' }>, pieces: readonly Buffer[]): void {
    if (answer === null || this.#clientGone) return
    if (stream.isOver === true && this.#last.waits) {
      const copied = Buffer.concat(pieces) // their memory is used again
      return this.#last.send(() => {
        if (!this.#turn.outgoing.destroyed) answer.write([copied])
      })
    }
    if (!answer.write(pieces)) this.#handle?.pause()
  }

  #write(chunk: Buffer): void {
    if (this.#clientGone) return
    if (!this.#turn.outgoing.write(chunk)) this.#handle?.pause()
  }

  /** `node:http` joins its head with text, but not with bytes: in latin1, each byte is a character. */
  #endAnswer(last: Buffer | null = null): void {
    if (this.#clientGone) return
    const { outgoing } = this.#turn
    this.#last.send(() => {
      if (last === null) outgoing.end()
      else if (last.length > ONE_WRITE_BYTES_MAX) outgoing.end(last)
      else outgoing.end(last.toString('latin1'), 'latin1')
    })
  }

  /** Of an answer that grows too long to be kept. What waited of it goes out, and what was kept is let go, but for a sample. */
  #outline(reading: Extract<Reading, { kind: 'plain' }>): JsonOutline {
    if (reading.outline !== null) return reading.outline
    const outline = new JsonOutline()
    for (const piece of reading.pieces.parts) outline.push(piece)
    if (reading.unsentHead !== null) {
      this.#writeHead(reading.unsentHead.statusCode, reading.unsentHead.headers)
      reading.unsentHead = null
      for (const piece of reading.pieces.parts) this.#write(piece)
    }
    reading.pieces.cutAfter(GAUGED_BYTES_MAX)
    reading.outline = outline
    return outline
  }

  #passError(reading: Extract<Reading, { kind: 'error' }>): void {
    if (reading.passing) return
    reading.passing = true
    // A redirect would carry the credential elsewhere: it is not followed, and not passed on, nor is the rest of it read.
    if (reading.statusCode >= 300 && reading.statusCode < 400) {
      this.#refuse({ code: 'upstream_unreachable', message: REDIRECT_MESSAGE })
      this.#handle?.abort()
      return this.#finish({ status: 'void' })
    }
    this.#writeHead(reading.statusCode, reading.headers)
    this.#write(bytesWithoutSecrets(reading.pieces.whole(), secretsOf(this.#served)))
    reading.pieces.clear()
  }

  #refuse(refusal: Refusal): void {
    const { upstream } = this.#served
    if (!this.#clientGone) refuse({ ...this.#turn, upstream }, refusal, this.#stateHeaders(null))
  }

  #finish(end: CallEnd): void {
    if (this.#over) return
    this.#over = true
    const { outgoing, gateway } = this.#turn
    outgoing.off('close', this.#onClientClose)
    outgoing.off('drain', this.#onClientDrain)
    if (this.#handle !== null) {
      gateway.metrics.inFlight.dec()
      gateway.metrics.providerCalls.add([this.#served.upstream.name, this.#outcome])
    }
    if (this.#draining) gateway.drains.count -= 1
    this.#resolve(end)
  }
}

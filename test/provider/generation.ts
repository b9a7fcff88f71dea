/** Generates an answer token by token: paced by a timer or as fast as the reader takes it, and never on after the reader is gone. */
import type { ServerResponse } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import type { Draft } from './drafts.ts'

/** The other end of one answer. */
export interface Reader {
  /** The connection was closed before the answer was complete. */
  readonly gone: boolean
  /** After `ms` milliseconds, or as soon as the reader is gone. */
  wait(ms: number): Promise<void>
  /** When what was written has left, or the reader is gone; after a turn of the event loop where nothing is in the way. */
  ready(): Promise<void>
}

export function readerOf(response: ServerResponse): Reader {
  let gone = false
  let wake: (() => void) | null = null
  response.once('close', () => {
    gone = true
    wake?.()
  })
  const until = (start: (resolve: () => void) => void): Promise<void> =>
    new Promise((resolve) => {
      if (gone) return resolve()
      wake = resolve
      start(resolve)
    })
  return {
    get gone() {
      return gone
    },
    async wait(ms) {
      let timer: NodeJS.Timeout | undefined
      await until((resolve) => {
        if (Number.isFinite(ms)) timer = setTimeout(resolve, Math.max(1, ms))
      })
      clearTimeout(timer)
    },
    ready: () => until((resolve) => (response.writableNeedDrain ? response.once('drain', resolve) : setImmediate(resolve))),
  }
}

/** Once `bytes`, and the head before them, are with the kernel; or the reader is gone, of whom no write hears any more. */
export async function flushed(response: ServerResponse, bytes: Buffer | string): Promise<void> {
  if (bytes.length === 0) response.flushHeaders()
  else if (!response.destroyed)
    await new Promise<void>((resolve) => {
      response.once('close', resolve)
      response.write(bytes, () => resolve())
    })
  await turn()
  await turn()
}

export interface Pace {
  /** Milliseconds per token, hidden ones too; 0: as fast as the reader takes them. */
  readonly tokenDelayMs: number
  /** Stop when this many visible tokens of each choice are out; null: at the end. */
  readonly stopAfter: number | null
}

export interface Progress {
  /** Billed tokens so far, of all choices, and the hidden ones among them. */
  readonly outputTokens: number
  readonly reasoningTokens: number
}

export interface Output {
  /** Called for each piece of a batch in turn, then `done` with what is out by now. */
  piece(choice: number, index: number): void
  done(progress: Progress): void
}

/** Untimed tokens between two turns of the event loop, in which an abort is noticed. */
const BATCH_TOKENS = 8
/** What a busy machine keeps this process from making for longer is not made up for: no model makes hundreds of tokens in one moment. */
const STALL_MS = 20

/** Runs to the end, or until `pace.stopAfter`, or until the reader is gone. */
export async function generate(drafts: readonly Draft[], pace: Pace, reader: Reader, output: Output): Promise<void> {
  const visible = (draft: Draft, step: number): number =>
    Math.min(Math.max(0, step - draft.reasoningTokens), draft.pieces.length, pace.stopAfter ?? Number.POSITIVE_INFINITY)
  const total = Math.max(...drafts.map((draft) => draft.reasoningTokens + visible(draft, Number.POSITIVE_INFINITY)))
  let lookedAtMs = performance.now()
  let workedMs = 0
  let step = 0
  while (step < total && !reader.gone) {
    const nowMs = performance.now()
    workedMs += Math.min(nowMs - lookedAtMs, pace.tokenDelayMs + STALL_MS)
    lookedAtMs = nowMs
    const next = Math.min(total, nextStep(step, drafts, pace, workedMs))
    const from = step
    for (const [choice, draft] of drafts.entries())
      for (let index = visible(draft, from); index < visible(draft, next); index += 1) output.piece(choice, index)
    step = next
    output.done(
      progressAt(
        drafts,
        (draft) => Math.min(step, draft.reasoningTokens),
        (draft) => visible(draft, step),
      ),
    )
    if (step >= total) break
    await (pace.tokenDelayMs > 0 ? reader.wait(pace.tokenDelayMs) : reader.ready())
    if (pace.tokenDelayMs > 0) await reader.ready()
  }
}

/** What a complete answer costs. */
export function completeProgress(drafts: readonly Draft[]): Progress {
  return progressAt(
    drafts,
    (draft) => draft.reasoningTokens,
    (draft) => draft.pieces.length,
  )
}

function nextStep(step: number, drafts: readonly Draft[], pace: Pace, workedMs: number): number {
  if (pace.tokenDelayMs > 0) return Math.max(step, Math.floor(workedMs / pace.tokenDelayMs))
  // Untimed thinking takes no time at all.
  const hidden = Math.min(...drafts.map((draft) => draft.reasoningTokens))
  return Math.max(step, hidden) + BATCH_TOKENS
}

function progressAt(drafts: readonly Draft[], hidden: (draft: Draft) => number, visible: (draft: Draft) => number): Progress {
  let outputTokens = 0
  let reasoningTokens = 0
  for (const draft of drafts) {
    reasoningTokens += hidden(draft)
    outputTokens += hidden(draft) + draft.billedBefore(visible(draft))
  }
  return { outputTokens, reasoningTokens }
}

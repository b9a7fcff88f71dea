/** What is known of a conversation between turns. Ids are hashed; nothing here is a prompt, but for the edit log. */
import type { Rung, RungReason } from '@farebox/crds/ladder.ts'
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import type { NanoUsd } from '@farebox/crds/usd.ts'

/** What a cost was driven by. `other` is what the app added. */
export const DRIVERS = ['history', 'retrieval', 'tools', 'output', 'summaries', 'other'] as const
export type Driver = (typeof DRIVERS)[number]

export type ConversationId = string
export type UserId = string
/** First 128 bits of an HMAC or hash, hex. */
export type Digest = string

/** What of a counted request may be the same in the next one; core/counted-parts.ts makes and reads it. */
export interface CountedParts {
  /** How coarse the pieces of the instructions are. */
  readonly level: number
  /** Digests of those, one after the other. */
  readonly instructions: string
  /** Of what was said beside instructions: each from the end of the one before to `end`, in messages. */
  readonly stretches: readonly { readonly end: number; readonly digest: Digest }[]
}

/** The provider's own count of what we last sent, from which the next bound starts. A conversation has that of its chat; calls beside that have another, from which a chat goes on where it was its question. */
export interface ExactCount {
  readonly model: string
  /** Digest of everything sent beside the messages that fills the window (tools, schemas). */
  readonly fixedDigest: Digest
  /** How many messages were sent, and the digest over their bytes. */
  readonly messages: number
  readonly messagesDigest: Digest
  /** Of those messages, for where an app changes some from call to call; absent: the provider may have read less, or an older version counted. */
  readonly parts?: CountedParts
  readonly inputTokens: number
  /** Read from the provider's cache, and written there; absent: nothing was written, or an older version counted. */
  readonly cachedTokens: number
  readonly cacheWrittenTokens?: number
  /** The most that may be sound; absent: the provider does not tell it apart. */
  readonly audioTokens?: number
  readonly outputTokens: number
  readonly atMs: number
  /** Id of the last edit of messages in the log that they were sent by; empty: there was none. Absent, from an older version: not known. */
  readonly lastEdit?: string
  /** Which stored response of the provider it ends with, where the provider keeps the history. */
  readonly response?: Digest
  /** As `keptReading` of its request; absent: the provider keeps nothing, or an older version counted. */
  readonly keptReading?: Digest
  /** All that was counted is text, and none of it hidden: models of one tokenizer count the same. Absent: that is not known. */
  readonly isText?: true
  /** Whether models of one tokenizer count the same of what was counted, where `isText` is absent. Absent: that is not known. */
  readonly isAlike?: boolean
  /** `DowngradeModel` was in effect, and the model that was asked for answered all the same. Absent: not so, or an older version counted. */
  readonly stayed?: true
}

/**
 * One edit of the history, replayed byte for byte on each later turn: the app resends its own unedited history.
 * `original` names messages by the digest of what the client sent, so an edit that no longer matches is not applied.
 */
export type Edit =
  /** A message with another content: dropped retrieval. `text` is the whole message as JSON. */
  | {
      readonly kind: 'replace'
      readonly id: string
      readonly rung: Rung
      readonly original: Digest
      readonly text: string
      readonly savedBytes: number
    }
  /**
   * The messages after the leading system ones, `count` of them with the chained digest `originals`, become one message.
   * `text` is that message as JSON; empty where nothing takes their place.
   */
  | {
      readonly kind: 'cut'
      readonly id: string
      readonly cause: 'Summarize' | 'DropOldest' | 'Reset'
      readonly leading: number
      readonly count: number
      readonly originals: Digest
      readonly text: string
      readonly savedBytes: number
    }
  /** Text that we put into an answer, taken out again wherever an assistant message carries it. */
  | { readonly kind: 'notice'; readonly id: string; readonly text: string }

/** A question of the user, by the history that it stands at the end of. */
export interface Question {
  /** `KEPT_MESSAGES` where the provider keeps the history. */
  readonly messages: number
  /** The first 64 bits of a digest over them, hex. */
  readonly digest: string
}

/** More than any request brings: an app that goes on from what the provider keeps sends less with all that is no question of its chat. */
export const KEPT_MESSAGES = 2 ** 31 - 1

export interface UserRungs {
  /** As `periodName` of core/terms.ts gives it. */
  readonly period: string
  readonly rungs: readonly Rung[]
}

/** Alerts of the user's budget, which begin anew with each of its periods. */
export interface UserAlerts {
  /** As `periodName` of core/terms.ts gives it. */
  readonly period: string
  /** In rising order. */
  readonly percents: readonly number[]
}

/** A notice that waits for the next prose answer. */
export interface PendingNotice {
  readonly id: string
  readonly occasion: NoticeOccasion
}

/** What became of a conversation: `assumed` after a quiet time; `reversed`: an assumed or confirmed one was taken back. */
export type Resolution = 'none' | 'assumed' | 'confirmed' | 'reversed'

export interface Conversation {
  readonly id: ConversationId
  readonly tier: string
  readonly contractHash: string
  readonly contractPinnedAtMs: number
  readonly user: UserId | null
  /** 1 for the first; `EndConversation` with `Reset` opens the next, with a budget of its own. */
  readonly session: number
  readonly startedAtMs: number
  readonly lastTurnAtMs: number
  readonly turns: number
  /** Questions of the user in this session; the tool loop after a question begins no other. */
  readonly userTurns: number
  /** The last of them, as it went out; null before the first, and where it is not known. */
  readonly question: Question | null
  /** Rungs in effect in this session. */
  readonly rungs: readonly Rung[]
  readonly reason: RungReason | null
  /** Whether thresholds below the cap apply; false for a PerResolution tier that was on target when this session began. */
  readonly ladderApplies: boolean
  /** `ended`: the last rung was reached; a `Reset` or `reopen` opens it again. */
  readonly state: 'open' | 'ended'
  /** When that was told in this session; null before that, and where it is not known. */
  readonly stateAtMs: number | null
  readonly exact: ExactCount | null
  readonly edits: readonly Edit[]
  /** Edits made between turns (summaries), which join `edits` at the next user-turn boundary: never inside a tool loop. */
  readonly readyEdits: readonly Edit[]
  /** Rungs that the user's budget drives, worked out anew in each of its periods. */
  readonly userRungs: UserRungs | null
  /**
   * Rungs of the user turn that began last, which last until the next begins, whatever becomes of what made them necessary: those of a limit of
   * the workload, and of the user's budget those that rewrite or swap, for its period may turn in the middle of a tool loop.
   */
  readonly turnRungs: readonly Rung[]
  /** Alert thresholds of its own budget that have fired in this session, in percent. Earlier versions had those of its user among them. */
  readonly alerts: readonly number[]
  /** What its own budget reached in the sessions before this one, in rising order: a status counts whoever reached it in any. */
  readonly earlierAlerts: readonly number[]
  /** Those of the user's budget that have fired in this conversation, in the last period in which any did. */
  readonly userAlerts: UserAlerts | null
  readonly notices: readonly PendingNotice[]
  /** The app said that the next user turn starts a new task. */
  readonly atTaskBoundary: boolean
  /** When that was told in this session, or its turn was answered; null before that, and where it is not known. */
  readonly boundaryAtMs: number | null
  readonly drivers: Readonly<Record<Driver, NanoUsd>>
  readonly resolution: Resolution
  /** When it was resolved as it stands, or that was taken back; null before that, and where it is not known. */
  readonly resolvedAtMs: number | null
  /** How often it was resolved: once, and once more after each reversal. */
  readonly resolutionRound: number
}

/** A change of a conversation. Each part is monotone or keyed, so that changes commute and repeats do nothing. */
export interface ConversationChange {
  /**
   * The session that the change was decided in. When another one is open by now, what belongs to a session (rungs,
   * alerts, new notices, state, task boundary, user turns, question, rungs of the turn, resolution, exact count) is left out; turns, costs and
   * edits still count.
   */
  readonly ofSession?: number
  readonly addRungs?: { readonly rungs: readonly Rung[]; readonly reason: RungReason }
  /** Appended unless an edit of that id is there; also leaves `readyEdits`. */
  readonly addEdits?: readonly Edit[]
  readonly addReadyEdits?: readonly Edit[]
  /** Adds to the rungs of this period; a later one, or one of another kind, takes the place of the one before. */
  readonly addUserRungs?: UserRungs
  /** Take the place of those before. */
  readonly turnRungs?: readonly Rung[]
  readonly addAlerts?: readonly number[]
  /** Adds to those of this period, as `addUserRungs` does; without percents it changes nothing. */
  readonly addUserAlerts?: UserAlerts
  readonly addNotices?: readonly PendingNotice[]
  readonly removeNotices?: readonly string[]
  readonly addDrivers?: Readonly<Partial<Record<Driver, NanoUsd>>>
  /** Counts a turn that ended at this time. */
  readonly turnAtMs?: number
  /** Counts a question of the user, unless `question` is the last of the session already. */
  readonly addUserTurn?: true
  /** Takes the place of the one before. */
  readonly question?: Question
  /** The later `atMs` wins. */
  readonly exact?: ExactCount
  /**
   * `open` also takes the rung `EndConversation` back. Of two the later counts, of the same time the one that is told last; an end that
   * does not count brings no such rung.
   */
  readonly state?: { readonly is: 'open' | 'ended'; readonly atMs: number }
  /** Of two the later counts, of the same time the one that is told last. */
  readonly atTaskBoundary?: { readonly is: boolean; readonly atMs: number }
  /**
   * Opens this session when it is the next one: clears rungs, reason, alerts, notices, state, atTaskBoundary, userTurns, question, turnRungs,
   * resolution; keeps edits, and the alerts among the earlier ones.
   */
  readonly openSession?: number
  /** Of the session that `openSession` opens; without it as in the session before. */
  readonly ladderApplies?: boolean
  readonly contract?: { readonly hash: string; readonly pinnedAtMs: number }
  /** Of two the later counts; of the same time the one that is told last. */
  readonly resolution?: { readonly kind: Exclude<Resolution, 'none'>; readonly atMs: number }
  /** The highest counts. */
  readonly resolutionRound?: number
}

/**
 * How configs reach sidecars and what sidecars tell in return, over https between a sidecar and any replica of the operator.
 *
 *     GET  /v1/stream    server-sent events; the request says what the sidecar has
 *     POST /v1/reports   one `SidecarReport`; answered 202 with a `ReportAnswer`, or 401, 403, 413, 422, 429 with `{"error": "..."}`
 *
 * Both carry `authorization: Bearer TOKEN`: a token of the pod's service account for our audience, bound to the pod. A sidecar is
 * told of its own pod and nothing else. A report is a level, not an edge: the newest one says all, so a lost one costs nothing
 * and a repeated one counts once.
 */
import * as z from 'zod'
import { SidecarStatusSchema } from './sidecar-status.ts'

/** Grows when a sidecar could misread what an operator sends. Operators serve this one and the two before it. */
export const DELIVERY_PROTOCOL = 1

export const STREAM_PATH = '/v1/stream'
export const REPORTS_PATH = '/v1/reports'
/** Between operator replicas: reports that the leader is to have. */
export const FORWARDED_PATH = '/v1/forwarded-reports'
export const REPORT_BYTES_MAX = 256 * 1024

/** Request headers of the stream. */
export const STREAM_HEADERS = {
  protocol: 'x-farebox-protocol',
  /** Version of the sidecar's program. */
  sidecar: 'x-farebox-sidecar-version',
  /** `schemaVersion`s of configs that it can read, between commas. */
  schemas: 'x-farebox-schemas',
  /** Hash of the config in force; absent: none. An operator that would send the same sends `current` in its place. */
  have: 'x-farebox-have',
} as const

/**
 * Events of the stream, by name, with their data as JSON.
 * `config`: a `SidecarConfig`, to be read as a mounted one is. `current`: the hash alone, of what is in force already, or is of a
 * schema that the sidecar cannot read. `released`: no budget governs the pod; what is in force stays. `trust`: certificates, as PEM, to
 * trust from now on. `beat`: every 15 s. `goodbye`: the replica goes; another is to be looked for within `withinMs`, spread evenly.
 */
export const StreamEventSchemas = {
  config: z.unknown(),
  current: z.object({ hash: z.string() }),
  released: z.object({}),
  trust: z.object({ caBundle: z.string() }),
  beat: z.object({ nowMs: z.int() }),
  goodbye: z.object({ withinMs: z.int().min(0).max(60_000) }),
} as const
export type StreamEvent = keyof typeof StreamEventSchemas
export const BEAT_MS = 15_000

/** `config`: what the sidecar makes of the configs that it saw; both null before the first. */
export const SidecarReportSchema = z.object({
  protocol: z.int().min(1),
  /** Drawn anew by each run of the sidecar: `sequence` starts at 1 in each. */
  run: z.string().regex(/^[0-9a-f]{32}$/),
  /** When the run began, by the sidecar's clock, in ms: of two runs of a pod the later one counts. */
  runSinceMs: z.int().min(0),
  sequence: z.int().min(1),
  sidecarVersion: z.string().max(64),
  inForce: z.object({ budget: z.string().max(512), version: z.int(), hash: z.string().max(64) }).nullable(),
  /** The last config that was refused since the one in force, and what was wrong with it. */
  refused: z.object({ version: z.int().nullable(), hash: z.string().max(64).nullable(), reason: z.string().max(1_024) }).nullable(),
  /** ms since a replica of the operator last said what is in force; null: never in this run. */
  staleMs: z.int().min(0).nullable(),
  /** Books that the totals are from: the same for all who share them. */
  books: z.string().max(128),
  /** Null before the first config. */
  status: SidecarStatusSchema.nullable(),
  /** Turns that this run has ended so far, and when the last one did by its clock. */
  turns: z.object({ count: z.int().min(0), lastMs: z.int().min(0).nullable(), withoutUser: z.int().min(0) }),
  /** Upstreams whose key this sidecar holds. */
  heldKeys: z.array(z.string().max(64)).max(16),
  /** Connections of the pod to a provider that are not the sidecar's: how many looks found some, of how many, and the last place seen. */
  bypass: z.object({ looks: z.int().min(0), found: z.int().min(0), lastSeen: z.string().max(256).nullable(), lastMs: z.int().nullable() }),
})
export type SidecarReport = z.infer<typeof SidecarReportSchema>

/** `totals`: whether the next report is to have the totals of the books: one of those who share them tells them. Absent: it is. */
export const ReportAnswerSchema = z.object({ totals: z.boolean().optional() })
export type ReportAnswer = z.infer<typeof ReportAnswerSchema>

/** A report that was checked, with who sent it: from the token, never from the report. */
export const ReceivedReportSchema = z.object({
  pod: z.object({ namespace: z.string(), name: z.string(), uid: z.string() }),
  receivedAtMs: z.int(),
  report: SidecarReportSchema,
})
export type ReceivedReport = z.infer<typeof ReceivedReportSchema>

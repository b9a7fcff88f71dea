/** A call that is no talk, as its handlers see it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Controls } from '../controls.ts'
import type { JsonObject } from '../fields.ts'
import type { Reader } from '../generation.ts'
import type { UnitModel, UnitUse } from './models.ts'

export interface UnitRequest {
  readonly request: IncomingMessage
  readonly body: Buffer
  readonly controls: Controls
  readonly requestId: string
  readonly response: ServerResponse
  /** What serves, where the path has said so. */
  readonly model?: string
}

/** A call on its way: its fields, and how it is billed and answered. */
export interface UnitCall extends UnitRequest {
  /** Of the JSON, or of the form. */
  readonly fields: JsonObject
  readonly files: readonly File[]
  readonly reader: Reader
  /** Puts the call on the bill; what it used may become known later. */
  open(model: UnitModel, call: { readonly stream?: boolean; readonly promptTokens?: number }): OpenLine
  sendJson(value: unknown): void
  send(type: string, body: Buffer): void
  /** Server-sent events; each is sent as it is. */
  startEvents(): void
}

export interface OpenLine {
  use(used: UnitUse, outputTokens?: number): void
  close(state: 'complete' | 'aborted' | 'cut'): void
}

/** One event of a stream of typed events. */
export function typedEvent(value: { readonly type: string; readonly [key: string]: unknown }): string {
  return `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`
}

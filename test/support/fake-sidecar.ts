/** What a sidecar says on the wire, without a sidecar: its stream and its reports, for tests of hundreds and of what a real one would not say. */
import { request } from 'node:https'
import type { Agent } from 'node:https'
import { DELIVERY_PROTOCOL, REPORTS_PATH, STREAM_HEADERS, STREAM_PATH } from '@farebox/crds/delivery.ts'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import { EventReader } from '@farebox/sidecar/delivery/event-reader.ts'
import type { NamedEvent } from '@farebox/sidecar/delivery/event-reader.ts'

const EVENT_BYTES_MAX = 1024 * 1024
/** Bearer, or whatever else is to be tried; null: none. */
type Authorization = string | null

/** The delivery listener of an operator. */
export interface Listener {
  readonly url: string
  /** PEM. */
  readonly ca: string
}

export interface Answer {
  readonly status: number
  /** Why it was refused. */
  readonly error: string
}

export interface Stream extends Answer {
  /** All that came so far. */
  readonly events: readonly NamedEvent[]
  close(): void
}

export interface StreamOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly onEvent?: (event: NamedEvent) => void
}

/** Resolves when it is open, or refused. */
export function openStream({ url, ca }: Listener, authorization: Authorization, options: StreamOptions = {}): Promise<Stream> {
  const headers = {
    ...withAuthorization(authorization),
    [STREAM_HEADERS.protocol]: String(DELIVERY_PROTOCOL),
    [STREAM_HEADERS.schemas]: '1',
    ...options.headers,
  }
  return new Promise((resolve, reject) => {
    const asked = request(new URL(STREAM_PATH, url), { ca, agent: false, headers }, (answer) => {
      const events: NamedEvent[] = []
      const status = answer.statusCode ?? 0
      const close = (): void => void asked.destroy()
      answer.on('error', () => undefined) // the operator went, or we did
      if (status !== 200) {
        textOf(answer).then((text) => resolve({ status, error: errorIn(text), events, close }), reject)
        return
      }
      const reader = new EventReader(EVENT_BYTES_MAX)
      answer.on('data', (chunk: Buffer) => {
        for (const event of reader.push(chunk)) {
          events.push(event)
          options.onEvent?.(event)
        }
      })
      resolve({ status, error: '', events, close })
    })
    asked.on('error', reject)
    asked.end()
  })
}

/** Posts `body`: a report, or what is none. */
export function sendReport(
  { url, ca }: Listener,
  authorization: Authorization,
  body: SidecarReport | string,
  agent?: Agent,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      new URL(REPORTS_PATH, url),
      { ca, agent: agent ?? false, method: 'POST', headers: withAuthorization(authorization) },
      (answer) => {
        textOf(answer).then((text) => resolve({ status: answer.statusCode ?? 0, error: errorIn(text) }), reject)
      },
    )
    asked.on('error', reject)
    asked.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
}

/** The first of a run that has seen nothing yet. */
export function makeReport(parts: Partial<SidecarReport> = {}): SidecarReport {
  return {
    protocol: DELIVERY_PROTOCOL,
    run: 'ab'.repeat(16),
    runSinceMs: 1,
    sequence: 1,
    sidecarVersion: '0.1.0',
    inForce: null,
    refused: null,
    staleMs: 0,
    books: 'one',
    status: null,
    turns: { count: 0, lastMs: null, withoutUser: 0 },
    heldKeys: [],
    bypass: { looks: 0, found: 0, lastSeen: null, lastMs: null },
    ...parts,
  }
}

export interface FakeSidecarOptions {
  readonly listener: Listener
  readonly token: string
  /** Of reports, so that two hundred sidecars need not shake hands each time. */
  readonly agent: Agent
  /** A config that came was reported to be in force, and the operator took the report. */
  readonly onAcknowledged: (hash: string) => void
  /** It says the same again so often, as real ones do every 15 s; absent: never, once it was heard. */
  readonly everyMs?: number
}

/** One that takes each config, and says so after the time that a real one lets pass. Resolves when its stream is open. */
export async function startFakeSidecar({ listener, token, agent, onAcknowledged, everyMs }: FakeSidecarOptions): Promise<Stream> {
  const authorization = `Bearer ${token}`
  let sequence = 0
  let newest = ''
  let again: NodeJS.Timeout | null = null
  let isClosed = false
  const acknowledge = async (data: string): Promise<void> => {
    const { namespace, budget, version, hash } = JSON.parse(data) as Config
    sequence += 1
    const inForce = { budget: `${namespace}/${budget}`, version, hash }
    const { status } = await sendReport(listener, authorization, makeReport({ sequence, inForce }), agent)
    if (status === 202) onAcknowledged(hash)
  }
  const acknowledgeLater = (data: string, afterMs: number | undefined): void => {
    if (afterMs === undefined || isClosed || data !== newest) return
    if (again !== null) clearTimeout(again)
    again = setTimeout(() => {
      void acknowledge(data).then(
        () => acknowledgeLater(data, everyMs),
        () => acknowledgeLater(data, RETRIED_AFTER_MS),
      )
    }, afterMs)
  }
  const stream = await openStream(listener, authorization, {
    onEvent: ({ name, data }) => {
      if (name !== 'config') return
      newest = data
      acknowledgeLater(data, REPORTED_AFTER_MS.least + Math.random() * REPORTED_AFTER_MS.spread)
    },
  })
  return {
    ...stream,
    close() {
      isClosed = true
      if (again !== null) clearTimeout(again)
      stream.close()
    },
  }
}

interface Config {
  readonly namespace: string
  readonly budget: string
  readonly version: number
  readonly hash: string
}

const REPORTED_AFTER_MS = { least: 50, spread: 350 } as const
/** A report that did not arrive, as real ones do. */
const RETRIED_AFTER_MS = 1_000

function withAuthorization(authorization: Authorization): Record<string, string> {
  return authorization === null ? {} : { authorization }
}

async function textOf(answer: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

function errorIn(text: string): string {
  const { error = '' } = JSON.parse(text) as { readonly error?: string }
  return error
}

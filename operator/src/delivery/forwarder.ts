/**
 * Reports on their way to the replica that leads. Of each pod only the newest waits: a report says all, so that what is lost
 * while no replica leads is made good by the next one.
 */
import { Agent, request } from 'node:https'
import { FORWARDED_PATH } from '@farebox/crds/delivery.ts'
import type { ReceivedReport } from '@farebox/crds/delivery.ts'
import type { DeliveryEvents } from './events.ts'
import { FORWARDED_BYTES_MAX } from './server.ts'

export interface ForwarderOptions {
  /** `HOST:PORT` of the leader's delivery listener, an IPv6 address in brackets; null: nobody leads now. */
  readonly leader: () => string | null
  /** Certificates, as PEM, of which one must have signed the leader's. */
  readonly ca: () => string
  /** The name in the leader's certificate: its address is a pod's. */
  readonly serverName: string
  /** Of our own service account. */
  readonly token: () => string | Promise<string>
  readonly events: DeliveryEvents
  /** The clock by which reports are received. */
  readonly nowMs: () => number
  /** Pods whose reports may wait. */
  readonly queueMax?: number
  readonly batchMs?: number
}

const QUEUE_MAX = 10_000
const BATCH_MS = 100
const BATCH_MAX = 500
const BATCH_BYTES_MAX = FORWARDED_BYTES_MAX / 2
const WAIT_MS_MAX = 5_000
const ANSWER_MS_MAX = 5_000

/** Owns the reports that wait, a timer, and a connection to the leader, until `close`: what waits then is not sent. It never throws. */
export class Forwarder {
  readonly #options: ForwarderOptions
  /** The one that has waited longest is first. */
  readonly #queue = new Map<string, ReceivedReport>()
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  #timer: NodeJS.Timeout | null = null
  #isSending = false
  #isClosed = false
  #waitMs = 0

  constructor(options: ForwarderOptions) {
    this.#options = options
  }

  /** In the place of an older one of its pod. Where too many wait, those are dropped that have waited longest. */
  add(received: ReceivedReport): void {
    if (this.#isClosed) return
    const { queueMax = QUEUE_MAX, events } = this.#options
    this.#queue.delete(received.pod.uid)
    this.#queue.set(received.pod.uid, received)
    for (const uid of this.#queue.keys()) {
      if (this.#queue.size <= queueMax) break
      this.#queue.delete(uid)
      events.count('forwardDropped')
    }
    this.#soon()
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#agent.destroy()
  }

  #soon(): void {
    if (this.#isSending || this.#isClosed || this.#timer !== null || this.#queue.size === 0) return
    this.#timer = setTimeout(
      () => {
        this.#timer = null
        void this.#sendSome()
      },
      this.#waitMs + (this.#options.batchMs ?? BATCH_MS),
    ).unref()
  }

  /** Never rejects. */
  async #sendSome(): Promise<void> {
    const { events, nowMs } = this.#options
    this.#isSending = true
    const batch = this.#nextBatch()
    try {
      const status = await this.#post(JSON.stringify({ sentAtMs: nowMs(), reports: batch }))
      const isTaken = status === 202
      if (isTaken || status === 413 || status === 422) {
        for (const received of batch) if (this.#queue.get(received.pod.uid) === received) this.#queue.delete(received.pod.uid)
        events.count(isTaken ? 'reportForwarded' : 'forwardDropped', batch.length)
      } else throw new Error(`the leader answered ${status}`)
      this.#waitMs = 0
    } catch (error) {
      events.count('forwardFailed')
      if (this.#waitMs === 0) events.log('warn', 'reports cannot be passed on to the leader; they wait', { err: String(error) })
      this.#waitMs = Math.min(WAIT_MS_MAX, Math.max(250, this.#waitMs * 2))
    } finally {
      this.#isSending = false
      this.#soon()
    }
  }

  #nextBatch(): readonly ReceivedReport[] {
    const batch: ReceivedReport[] = []
    let bytes = 0
    for (const received of this.#queue.values()) {
      bytes += JSON.stringify(received).length
      if (batch.length >= BATCH_MAX || (batch.length > 0 && bytes > BATCH_BYTES_MAX)) break
      batch.push(received)
    }
    return batch
  }

  async #post(body: string): Promise<number> {
    const { leader, ca, serverName, token } = this.#options
    const place = leader()
    if (place === null) throw new Error('nobody leads')
    const url = new URL(`https://${place}${FORWARDED_PATH}`)
    const headers = {
      authorization: `Bearer ${(await token()).trim()}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    return await new Promise((resolve, reject) => {
      const asked = request(
        url,
        {
          method: 'POST',
          agent: this.#agent,
          ca: ca(),
          allowPartialTrustChain: true, // a CA may itself be signed by another
          servername: serverName,
          headers,
          signal: AbortSignal.timeout(ANSWER_MS_MAX),
        },
        (answered) => {
          answered.resume()
          answered.on('end', () => resolve(answered.statusCode ?? 0))
          answered.on('error', reject)
        },
      )
      asked.on('error', reject)
      asked.end(body)
    })
  }
}

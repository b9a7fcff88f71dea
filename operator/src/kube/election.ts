/** One of all replicas leads. Others may take over only after this one can no longer write, and this one ends before that. */
import { randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { KubeConnection } from './client.ts'
import { systemClock } from './clock.ts'
import { BEAT, DEADLINE, SHARED_BYTES } from './lease-protocol.ts'
import type { LeaseOrder, LeaseReport, LeaseTask } from './lease-protocol.ts'
import { LEASES, pathOf } from './resources.ts'
import type { Fence } from './transport.ts'

export interface LeaderElectionOptions {
  readonly kube: Pick<KubeConnection, 'transport'>
  readonly namespace: string
  /** Of the Lease. */
  readonly name: string
  /** Of this replica, such as the pod's name. A random end is put to it: a process that starts again is another candidate. */
  readonly identity: string
  /** On the Lease while this replica leads. */
  readonly annotations?: Readonly<Record<string, string>>
  /** Once: from now on `mayWrite`. */
  onLeading(): void
  /** Must end the process, which is killed a second later in any case. Default: says so on stderr and exits with 1. */
  onLost?(reason: string): void
  /** Who leads, as far as is known; null: nobody. On every replica. */
  onHolder?(holder: Holder | null): void
  /** A call that failed, for another reason than the one before it; it is tried again. */
  onTrouble?(message: string): void
  /** How long others wait for a silent holder. */
  readonly leaseMs?: number
  /** How long a holder writes after its last renewal; less than `leaseMs`. */
  readonly renewDeadlineMs?: number
  readonly retryMs?: number
  readonly userAgent?: string
}

export interface Holder {
  readonly identity: string
  readonly annotations: Readonly<Record<string, string>>
}

const BEAT_MS = 250
/** Tokens of service accounts are replaced on disk long before they end. */
const CREDENTIALS_MS = 30_000
const STOP_MS = 5_000

/** Owns a thread that renews the Lease, and two timers, from `start` to `stop`. Leadership that is lost ends the process. */
export class LeaderElection implements Fence {
  readonly #options: LeaderElectionOptions
  readonly identity: string
  readonly #memory = new SharedArrayBuffer(SHARED_BYTES)
  readonly #shared = new BigInt64Array(this.#memory)
  #worker: Worker | null = null
  #timers: NodeJS.Timeout[] = []
  #state: 'new' | 'standing' | 'leading' | 'stopping' | 'ended' = 'new'
  #holder: Holder | null = null
  #released: () => void = () => {}

  constructor(options: LeaderElectionOptions) {
    this.#options = options
    this.identity = `${options.identity}_${randomBytes(4).toString('hex')}`
  }

  /** Once. Rejects with `KubeError` when there are no credentials. Needs no API server: it is waited for. */
  async start(): Promise<void> {
    if (this.#state !== 'new') throw new Error('an election starts once')
    this.#state = 'standing'
    const { kube, namespace, name, annotations = {}, leaseMs = 15_000, renewDeadlineMs = 10_000, retryMs = 2_000 } = this.#options
    if (!(retryMs < renewDeadlineMs && renewDeadlineMs < leaseMs)) throw new Error('it must be that retry < renew deadline < lease')
    const task: LeaseTask = {
      me: this.identity,
      namespace,
      name,
      path: pathOf(LEASES, { namespace, name }),
      collectionPath: pathOf(LEASES, { namespace }),
      annotations,
      leaseMs,
      renewDeadlineMs,
      retryMs,
      userAgent: this.#options.userAgent ?? 'farebox-operator',
      credentials: await kube.transport.credentials(),
      shared: this.#memory,
    }
    if (this.#isOver) return
    this.#beat()
    this.#worker = new Worker(workerUrl(), { workerData: task, name: 'lease' })
    this.#worker.on('message', (report: LeaseReport) => this.#take(report))
    this.#worker.on('error', (error) => this.#lost(`its thread failed: ${error.message}`))
    this.#worker.on('exit', () => this.#exited())
    this.#timers = [setInterval(() => this.#beat(), BEAT_MS), setInterval(() => this.#sendCredentials(), CREDENTIALS_MS)]
  }

  /** Right at this moment, whatever messages are still under way. */
  mayWrite(): boolean {
    return this.#state === 'leading' && systemClock.nowMs() < Number(Atomics.load(this.#shared, DEADLINE))
  }

  get isLeading(): boolean {
    return this.mayWrite()
  }

  get holder(): Holder | null {
    return this.#holder
  }

  /** Gives the lease back when it is ours, so that the next leads at once: stop what writes first. Writes are refused from here on. */
  async stop(): Promise<void> {
    if (this.#isOver) return
    const wasRunning = this.#worker !== null
    this.#state = 'stopping'
    if (wasRunning) {
      const released = new Promise<void>((resolve) => {
        this.#released = resolve
      })
      const timer = setTimeout(() => this.#released(), STOP_MS)
      this.#order({ do: 'stop' })
      await released
      clearTimeout(timer)
    }
    this.#end()
    await this.#worker?.terminate()
  }

  get #isOver(): boolean {
    return this.#state === 'stopping' || this.#state === 'ended'
  }

  #take(report: LeaseReport): void {
    switch (report.what) {
      case 'leading':
        if (this.#state !== 'standing') return
        this.#state = 'leading'
        this.#options.onLeading()
        return
      case 'holder':
        this.#holder = report.identity === '' ? null : { identity: report.identity, annotations: report.annotations }
        this.#options.onHolder?.(this.#holder)
        return
      case 'trouble':
        this.#options.onTrouble?.(report.message)
        return
      case 'released':
        this.#released()
        return
      case 'lost':
        this.#lost(report.reason)
    }
  }

  #lost(reason: string): void {
    if (this.#isOver) return
    this.#end()
    if (this.#options.onLost !== undefined) {
      this.#options.onLost(reason)
      return
    }
    writeSync(2, `leadership lost: ${reason}\n`)
    process.exit(1)
  }

  #exited(): void {
    this.#released()
    this.#lost('its thread ended')
  }

  #end(): void {
    this.#state = 'ended'
    Atomics.store(this.#shared, DEADLINE, 0n)
    for (const timer of this.#timers) clearInterval(timer)
  }

  #beat(): void {
    Atomics.store(this.#shared, BEAT, BigInt(Math.floor(systemClock.nowMs())))
  }

  #sendCredentials(): void {
    this.#options.kube.transport.credentials().then(
      (credentials) => this.#order({ do: 'credentials', credentials }),
      (error: unknown) => this.#options.onTrouble?.(`credentials: ${String(error)}`),
    )
  }

  #order(order: LeaseOrder): void {
    this.#worker?.postMessage(order)
  }
}

/** As it is written here, or bundled beside us. */
function workerUrl(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? './lease-worker.ts' : './lease-worker.js', import.meta.url)
}

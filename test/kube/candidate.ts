/**
 * A process that stands for election, and while it leads writes all the time: into a file, and where it is asked to, through the API
 * server. Its parent tells it to stand still, or to stop.
 */
import { appendFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { connectKube } from '../../operator/src/kube/client.ts'
import { systemClock } from '../../operator/src/kube/clock.ts'
import { KubeError } from '../../operator/src/kube/kube.ts'
import type { KubeObject } from '../../operator/src/kube/kube.ts'
import { LeaderElection } from '../../operator/src/kube/election.ts'
import { CONFIG_MAPS } from '../../operator/src/kube/resources.ts'

export interface CandidateTask {
  readonly kubeconfig: string
  readonly identity: string
  readonly namespace: string
  /** One line for each write: `milliseconds identity`, by the monotonic clock that all processes of a machine share. */
  readonly journal: string
  readonly leaseMs: number
  readonly renewDeadlineMs: number
  readonly retryMs: number
  /** Also by the API server. */
  readonly configMap?: string
}

export type CandidateOrder = { readonly blockMs: number } | { readonly stop: true }
export type CandidateWord = { readonly leading: true; readonly atMs: number } | { readonly holder: string; readonly address: string }

const task = JSON.parse(process.argv[2] ?? '{}') as CandidateTask
const { kubeconfig, identity, namespace, leaseMs, renewDeadlineMs, retryMs } = task
const kube = await connectKube({ kubeconfig, userAgent: identity, deadlineMs: 3_000, attemptMs: 1_000 })
const election = new LeaderElection({
  kube,
  namespace,
  name: 'election',
  identity,
  userAgent: identity,
  annotations: { 'farebox.dev/leader-address': `${identity}:9444` },
  leaseMs,
  renewDeadlineMs,
  retryMs,
  onLeading: () => {
    say({ leading: true, atMs: systemClock.nowMs() })
    void write()
    if (task.configMap !== undefined) void writeObject(task.configMap)
  },
  onHolder: (holder) => say({ holder: holder?.identity ?? '', address: holder?.annotations['farebox.dev/leader-address'] ?? '' }),
})
const life = new AbortController()

process.on('message', (order: CandidateOrder) => {
  if ('blockMs' in order) {
    const endMs = performance.now() + order.blockMs
    while (performance.now() < endMs);
    // What was due in the meantime comes next, and must not write.
    note()
    return
  }
  life.abort()
  void election.stop().then(() => process.exit(0))
})
// A parent that was killed cannot end it.
process.on('disconnect', () => process.exit(1))
await election.start()

async function write(): Promise<void> {
  while (!life.signal.aborted) {
    note()
    await delay(5)
  }
}

function note(): void {
  const atMs = systemClock.nowMs()
  if (election.mayWrite()) appendFileSync(task.journal, `${atMs} ${identity}\n`)
}

async function writeObject(name: string): Promise<void> {
  const fenced = kube.fenced(election)
  let known: KubeObject | null = null
  while (!life.signal.aborted) {
    try {
      known ??= await fenced.get(CONFIG_MAPS, name, namespace)
      if (known === null) return
      known = await fenced.replace(CONFIG_MAPS, { ...known, data: { holder: identity } })
    } catch (error) {
      if (!(error instanceof KubeError)) throw error
      known = null
    }
    await delay(20)
  }
}

function say(word: CandidateWord): void {
  process.send?.(word)
}

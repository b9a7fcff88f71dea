/**
 * The thread that holds the Lease. It has its own connection and imports next to nothing, so that neither work nor garbage of the
 * rest of the process delays a renewal; and it watches over the main thread, which must not lead while it stands still.
 */
import { writeSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { Session } from 'node:inspector'
import { parentPort, workerData } from 'node:worker_threads'
import { messageOf } from '../core/error-text.ts'
import { systemClock as clock } from './clock.ts'
import type { Credentials } from './credentials.ts'
import { heldSpec, nextStep, recordOf, releasedSpec, sight } from './lease.ts'
import type { LeaseRecord, Sighting } from './lease.ts'
import { BEAT, DEADLINE } from './lease-protocol.ts'
import type { LeaseOrder, LeaseReport, LeaseTask } from './lease-protocol.ts'

const port = parentPort
if (port === null) throw new Error('lease-worker runs as a worker thread')
const task = workerData as LeaseTask
const shared = new BigInt64Array(task.shared)
const agents = new Map<string, http.Agent>()
let credentials: Credentials = task.credentials
let sequence = 0
let sighting: Sighting | null = null
/** As we last wrote or read it. */
let record: LeaseRecord | null = null
let leading = false
let stopping = false
let told = ''
/** What the last call failed with; empty: it did not. */
let trouble = ''
let wake: () => void = () => {}

/** How long the main thread has to end the process itself. */
const KILL_AFTER_MS = 1_000

port.on('message', (order: LeaseOrder) => {
  if (order.do === 'credentials') credentials = order.credentials
  else {
    stopping = true
    wake()
  }
})
const watchdog = setInterval(watchOver, Math.max(20, Math.min(250, task.renewDeadlineMs / 8)))
// A rejection ends the thread, and that is told as a loss.
void hold()

async function hold(): Promise<void> {
  for (;;) {
    const startMs = clock.nowMs()
    try {
      await (leading && record !== null ? renew(record, startMs) : stand(startMs))
      trouble = ''
    } catch (error) {
      // Not knowing is not losing: until the deadline nobody else may have taken it.
      if (isConflict(error)) record = null
      tellTrouble(messageOf(error))
    }
    if (stopping) break
    // Standing by, replicas spread; holding, the pace is kept.
    const paceMs = task.retryMs * (leading ? 1 : 1 + Math.random() * 0.2)
    await pause(Math.max(leading ? 10 : task.retryMs / 2, startMs + paceMs - clock.nowMs()))
  }
  await release()
  clearInterval(watchdog)
  for (const agent of agents.values()) agent.destroy()
  port?.close()
}

/** Reads, and takes what is free. */
async function stand(startMs: number): Promise<void> {
  const read = await call('GET', task.path, null, patienceMs())
  record = read === null ? null : recordOf(read)
  const nowMs = clock.nowMs()
  if (record !== null) {
    sighting = sight(sighting, record, nowMs)
    if (record.holder !== task.me) tellHolder(record)
  }
  const step = nextStep(record, sighting, task.me, nowMs)
  if (step.do === 'wait') {
    if (leading) lost(`the lease is ${record?.holder ?? 'another'}'s by now`)
    return
  }
  if (leading && step.do !== 'renew') {
    lost(step.do === 'create' ? 'the lease was deleted' : 'the lease was taken from us')
    return
  }
  await renew(record, leading ? startMs : clock.nowMs())
}

/** Writes that we hold it, as of `startMs`: the write may arrive at once, and others count from its arrival. */
async function renew(before: LeaseRecord | null, startMs: number): Promise<void> {
  sequence += 1
  const written = await call(
    before === null ? 'POST' : 'PUT',
    before === null ? task.collectionPath : task.path,
    leaseOf(before, heldSpec(task.me, before, { wallMs: clock.wallMs(), sequence, leaseMs: task.leaseMs }), {
      ...before?.annotations,
      ...task.annotations,
    }),
    patienceMs(),
  )
  record = recordOf(written)
  const untilMs = startMs + task.renewDeadlineMs
  if (stopping) return
  if (clock.nowMs() >= untilMs) {
    // The answer came too late to build on it. Whoever does not lead yet just tries again.
    if (leading) lost('the lease could not be renewed in time')
    return
  }
  Atomics.store(shared, DEADLINE, BigInt(Math.floor(untilMs)))
  if (leading) return
  leading = true
  tellHolder(record)
  report({ what: 'leading' })
}

async function release(): Promise<void> {
  Atomics.store(shared, DEADLINE, 0n)
  if (leading && record !== null) {
    leading = false
    sequence += 1
    const annotations = Object.fromEntries(Object.entries(record.annotations).filter(([name]) => !(name in task.annotations)))
    try {
      const body = leaseOf(record, releasedSpec(record, { wallMs: clock.wallMs(), sequence }), annotations)
      await call('PUT', task.path, body, Math.min(3_000, task.renewDeadlineMs))
    } catch (error) {
      report({ what: 'trouble', message: `the lease was not released: ${String(error)}` })
    }
  }
  report({ what: 'released' })
}

/** Runs by its own timer, since a request may hang. */
function watchOver(): void {
  if (!leading || stopping) return
  const nowMs = clock.nowMs()
  if (nowMs >= Number(Atomics.load(shared, DEADLINE))) lost('the lease could not be renewed in time')
  else if (nowMs - Number(Atomics.load(shared, BEAT)) >= task.renewDeadlineMs) lost('the main thread stood still')
}

/** From here on this process must not write. Its main thread ends it, or else we do. */
function lost(reason: string): void {
  if (!leading) return
  leading = false
  stopping = true
  Atomics.store(shared, DEADLINE, 0n)
  report({ what: 'lost', reason })
  setTimeout(() => {
    // `process.stderr` of a thread goes through the main one, which may stand still.
    writeSync(2, `leadership lost: ${reason}\n`)
    process.kill(process.pid, 'SIGKILL')
    // Still here: the first process of a container takes no such signal from within.
    exitMainThread()
  }, KILL_AFTER_MS)
}

/** In the middle of whatever script keeps it from its messages. */
function exitMainThread(): void {
  const session = new Session()
  session.connectToMainThread()
  session.post('Runtime.evaluate', { expression: 'process.reallyExit(1)' })
}

/** No call may hang beyond the time in which we lead; nor so long that there is no time for another try. */
function patienceMs(): number {
  const half = task.renewDeadlineMs / 2
  return leading ? Math.max(1, Math.min(half, Number(Atomics.load(shared, DEADLINE)) - clock.nowMs())) : half
}

function leaseOf(before: LeaseRecord | null, spec: object, annotations: Readonly<Record<string, string>>): object {
  const { managedFields: _, ...metadata } = before?.metadata ?? {}
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { ...metadata, name: task.name, namespace: task.namespace, annotations },
    spec,
  }
}

function tellHolder({ holder, annotations }: LeaseRecord): void {
  const now = JSON.stringify([holder, annotations])
  if (now === told) return
  told = now
  report({ what: 'holder', identity: holder, annotations })
}

/** Once, for as long as it is the same: an API server that is away is tried every two seconds. */
function tellTrouble(message: string): void {
  if (message === trouble) return
  trouble = message
  report({ what: 'trouble', message })
}

function report(message: LeaseReport): void {
  port?.postMessage(message)
}

async function pause(delayMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, delayMs)
    wake = () => {
      clearTimeout(timer)
      resolve()
    }
  })
}

class RefusedError extends Error {
  readonly status: number

  constructor(status: number, text: string) {
    super(`the API server answers ${status}: ${text.slice(0, 300)}`)
    this.status = status
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof RefusedError && error.status === 409
}

/** Null: there is none. */
function call(method: 'GET' | 'POST' | 'PUT', path: string, body: object | null, limitMs: number): Promise<unknown> {
  const { server, headers, tls } = credentials
  const url = new URL(`${server}${path}`)
  const text = body === null ? null : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'http:' ? http : https).request(
      url,
      {
        method,
        agent: agentFor(url.protocol),
        ...(url.protocol === 'http:' ? {} : tls),
        headers: {
          'user-agent': task.userAgent,
          accept: 'application/json',
          ...(text === null ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
          ...headers,
        },
      },
      (response) => {
        const parts: Buffer[] = []
        response.on('data', (part: Buffer) => parts.push(part))
        response.on('error', fail)
        response.on('end', () => {
          clearTimeout(timer)
          const answer = Buffer.concat(parts).toString()
          const status = response.statusCode ?? 0
          if (status === 404 && method === 'GET') resolve(null)
          else if (status >= 300) reject(new RefusedError(status, answer))
          else resolve(JSON.parse(answer))
        })
      },
    )
    const fail = (error: Error) => {
      clearTimeout(timer)
      reject(error)
    }
    // With its socket, which may be dead without knowing it: the next try has a new one.
    const timer = setTimeout(() => request.destroy(new Error(`no answer in ${Math.round(limitMs)} ms`)), limitMs)
    request.on('error', fail)
    request.end(text)
  })
}

function agentFor(protocol: string): http.Agent {
  const known = agents.get(credentials.key)
  if (known !== undefined) return known
  for (const old of agents.values()) old.destroy()
  agents.clear()
  const agent = new (protocol === 'http:' ? http : https).Agent({ keepAlive: true, maxSockets: 1 })
  agents.set(credentials.key, agent)
  return agent
}

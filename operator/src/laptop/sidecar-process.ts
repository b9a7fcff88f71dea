/** The sidecar as a child process: started, watched, restarted when it falls, stopped in order. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { StoreNewsSchema } from '@farebox/crds/sidecar-status.ts'
import { askHttp } from './ask-http.ts'

const AS_WRITTEN = {
  main: fileURLToPath(new URL('../../../sidecar/src/main.ts', import.meta.url)),
  flags: ['--disable-warning=ExperimentalWarning'],
}
/** It drains for 25 s; past this it is killed. */
const STOP_MS_MAX = 30_000
/** One that was never ready has no call under way. */
const UNREADY_STOP_MS_MAX = 5_000
const READY_POLL_MS = 50
const READY_MS_MAX = 30_000
const LACKING_MS_MAX = 5_000
const PROBE_MS = 2_000
/** A child that lived this long begins its backoff anew. */
const STEADY_MS = 30_000
const LAST_WORDS_CHARS = 2_000
/** How a line begins that says why a process ends: ours, Node's of an error that nobody caught, V8's. Node ends those with its own version. */
const REASON_LINE = /^(?:farebox sidecar: |\w*Error\b|FATAL ERROR: )/
/** What it says while it runs on. */
const COMPLAINT_LINE = /^farebox sidecar: (the log .*)/

export interface SidecarProcessOptions {
  readonly configFile: string
  readonly dataDir: string
  readonly logFile: string
  readonly listen: Address
  readonly admin: Address
  /**
   * Of its books. `url`: of a store that several share; null: the one that the environment names, by the namespace that it names or else
   * this one, or one of its own, in `dataDir`.
   */
  readonly store?: { readonly url: string | null; readonly namespace: string }
  /** Of keys by which claims are signed, a file for each; absent: there are none. */
  readonly claimKeysDir?: string
  /** Absent: the sources as they are written. */
  readonly program?: { readonly main: string; readonly flags: readonly string[] }
  /** One line for people: that it fell, and when it starts again. */
  readonly say: (line: string) => void
}

/** What to wait before the restart after `falls` falls in a row (1, 2, ...), in ms. */
export function backoffMs(falls: number): number {
  const FIRST_MS = 250
  const MOST_MS = 10_000
  return Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(falls - 1, 10))
}

export class SidecarProcess {
  readonly #options: SidecarProcessOptions
  readonly #stopping = new AbortController()
  #child: ChildProcess | null = null
  /** It has ended, and all that it said was heard. */
  #closed: Promise<unknown> = Promise.resolve()
  #kept: Promise<void> = Promise.resolve()
  #lastWords = ''
  #lineBegun = ''
  /** The first line of what it says that tells why it ends. */
  #reason = ''
  #isStoreAway = false
  /** What it says of itself while it is up and not ready. */
  #notReady = ''

  constructor(options: SidecarProcessOptions) {
    this.#options = options
  }

  get pid(): number | null {
    return this.#child?.pid ?? null
  }

  /**
   * Starts it and waits until it is ready. Throws with its last words when it ends before that, is not ready within 30 s, or `givenUp` is
   * aborted meanwhile.
   */
  async start(givenUp?: AbortSignal): Promise<void> {
    const child = this.#spawn()
    const ready = await this.#untilReady(child, givenUp)
    if (ready) {
      this.#kept = this.#keep(child)
      return
    }
    await this.#end(child, UNREADY_STOP_MS_MAX)
    const words = this.#words('all') || this.#notReady || `see ${this.#options.logFile}`
    // Whoever gave the URL by the flag has never set the variable by which the sidecar gets it.
    const told = typeof this.#options.store?.url === 'string' ? words.replace(/\bFAREBOX_STORE:/, '--store:') : words
    throw new Error(`the sidecar did not start: ${told}`)
  }

  /** Asks it to end and waits: calls under way may finish. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    const child = this.#child
    if (child !== null) await this.#end(child, STOP_MS_MAX)
    await this.#kept
  }

  /** Ends it at once. */
  kill(): void {
    this.#stopping.abort()
    this.#child?.kill('SIGKILL')
  }

  async #keep(first: ChildProcess): Promise<void> {
    let child = first
    let falls = 0
    let startedAt = performance.now()
    while (!this.#stopping.signal.aborted) {
      await this.#closed
      if (this.#stopping.signal.aborted) return
      falls = performance.now() - startedAt > STEADY_MS ? 1 : falls + 1
      const waitMs = backoffMs(falls)
      const words = this.#words('last')
      this.#options.say(`sidecar ended (${howItEnded(child)})${words === '' ? '' : `: ${words}`}; starts again in ${waitMs / 1000} s`)
      await sleep(waitMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined)
      if (this.#stopping.signal.aborted) return
      startedAt = performance.now()
      child = this.#spawn()
      if (await this.#untilReady(child)) this.#options.say('sidecar is ready again')
    }
  }

  /** Why it ended, or else what it said: all that is known of that, or the last line. */
  #words(which: 'all' | 'last'): string {
    const said = `${this.#lastWords}${this.#lineBegun}`.trim()
    return this.#reason || (which === 'all' ? said : (said.split('\n').at(-1) ?? ''))
  }

  #spawn(): ChildProcess {
    const { configFile, dataDir, logFile, listen, admin, store, claimKeysDir, program = AS_WRITTEN } = this.#options
    this.#lastWords = ''
    this.#lineBegun = ''
    this.#reason = ''
    this.#notReady = ''
    // Detached: Ctrl+C reaches this process alone, which then stops the child in order.
    const child = spawn(process.execPath, [...program.flags, program.main], {
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'], // the channel breaks with this process, however it ends: then the child stops too
      env: {
        ...process.env,
        FAREBOX_CONFIG: configFile,
        FAREBOX_DATA: dataDir,
        FAREBOX_LISTEN: formatAddress(listen),
        FAREBOX_ADMIN: formatAddress(admin),
        FAREBOX_LOG: logFile,
        ...(claimKeysDir === undefined ? {} : { FAREBOX_CLAIM_KEYS: claimKeysDir }),
        ...(store === undefined ? {} : booksOf(store)),
      },
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      const lines = `${this.#lineBegun}${text}`.split('\n')
      this.#lineBegun = (lines.pop() ?? '').slice(-LAST_WORDS_CHARS)
      for (const line of lines) this.#said(line)
    })
    child.on('error', (error) => {
      this.#lastWords = error.message
    })
    child.on('message', (message) => this.#heard(message))
    this.#child = child
    this.#closed = new Promise((resolve) => child.once('close', resolve).once('error', resolve))
    return child
  }

  #said(line: string): void {
    const complaint = COMPLAINT_LINE.exec(line)?.[1]
    if (complaint !== undefined) return this.#options.say(complaint)
    if (this.#reason === '' && REASON_LINE.test(line)) this.#reason = line.slice(0, LAST_WORDS_CHARS)
    this.#lastWords = `${this.#lastWords}${line}\n`.slice(-LAST_WORDS_CHARS)
  }

  #heard(message: unknown): void {
    const news = StoreNewsSchema.safeParse(message)
    if (!news.success) return
    const { state, reason } = news.data.store
    const { back, away } = isShared(this.#options.store) ? SHARED_NEWS : OWN_NEWS
    if (state === 'Ready' && this.#isStoreAway) this.#options.say(back)
    if (state === 'Away' && !this.#isStoreAway) this.#options.say(`${away}: ${reason ?? 'it does not answer'}`)
    if (state !== 'Replaying') this.#isStoreAway = state === 'Away'
  }

  async #untilReady(child: ChildProcess, givenUp?: AbortSignal): Promise<boolean> {
    const url = `http://${formatAddress(this.#options.admin)}/readyz`
    let end = performance.now() + READY_MS_MAX
    const isWanted = (): boolean => isAlive(child) && givenUp?.aborted !== true
    while (isWanted() && performance.now() < end) {
      const reason = await whyNotReady(url, givenUp)
      if (reason === null) return true
      // It is up, and lacks something that it waits for.
      if (reason !== '' && this.#notReady === '') end = performance.now() + LACKING_MS_MAX
      this.#notReady = reason
      await sleep(READY_POLL_MS)
    }
    return false
  }

  async #end(child: ChildProcess, withinMs: number): Promise<void> {
    const killer = setTimeout(() => child.kill('SIGKILL'), withinMs)
    if (isAlive(child)) child.kill('SIGTERM')
    await this.#closed
    clearTimeout(killer)
  }
}

const SHARED_NEWS = { away: 'the shared store is away', back: 'the shared store is back, and has been told what it missed' }
const OWN_NEWS = { away: 'the books cannot be written, and calls are refused', back: 'the books can be written again' }

function isShared(store: SidecarProcessOptions['store']): boolean {
  const { FAREBOX_STORE: url = '', FAREBOX_STORE_FILE: file = '' } = process.env
  return typeof store?.url === 'string' || url !== '' || file !== ''
}

/** A namespace from elsewhere is of the store that is named there, not of another. */
function booksOf({ url, namespace }: NonNullable<SidecarProcessOptions['store']>): NodeJS.ProcessEnv {
  if (url !== null) return { FAREBOX_STORE: url, FAREBOX_NAMESPACE: namespace }
  return { FAREBOX_NAMESPACE: process.env['FAREBOX_NAMESPACE'] ?? namespace }
}

function isAlive(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null
}

function howItEnded(child: ChildProcess): string {
  return child.signalCode ?? `exit code ${child.exitCode ?? 'unknown'}`
}

/** Null: it is ready. Empty: it does not answer yet. */
async function whyNotReady(url: string, givenUp?: AbortSignal): Promise<string | null> {
  try {
    const { status, text } = await askHttp(url, {
      signal: AbortSignal.any([AbortSignal.timeout(PROBE_MS), ...(givenUp === undefined ? [] : [givenUp])]),
    })
    return status === 200 ? null : text.trim()
  } catch {
    return ''
  }
}

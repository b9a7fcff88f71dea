/** A real sidecar process for a test: started on free ports, restarted on the same data, killed in any way. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { formatUsd } from '@farebox/crds/usd.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import type { Standing } from '@farebox/sidecar/core/standing.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import OpenAI from 'openai'
import { endsWithUs } from './children.ts'
import { onFreePorts } from './free-ports.ts'
import { SIDECAR_MAIN } from './programs.ts'

const READY_WITHIN_MS = 60_000
/** A test must not wait for the client's own ten minutes. */
const ANSWER_WITHIN_MS = 60_000

export interface Sidecar {
  /** Origin of the data plane: `http://127.0.0.1:PORT`. */
  readonly url: string
  readonly adminUrl: string
  readonly dataDir: string
  /** The real client, pointed at the data plane; headers go with each request. */
  client(headers?: Record<string, string>, options?: { readonly maxRetries?: number }): OpenAI
  getJson(path: string): Promise<unknown>
  /** Where a conversation stands, by the id that the app uses. */
  standing(id: string, query?: string): Promise<Standing>
  /** Sends `body` as JSON; the status and what came back. */
  postJson(path: string, body: unknown): Promise<{ readonly status: number; readonly body: unknown }>
  /** What `/metrics` says, one line per series. */
  metrics(): Promise<string>
  /** All that the processes wrote to standard error: JSON, a line per event. */
  log(): string
  configure(config: SidecarConfig): void
  /** Puts any text in the config file's place, whole. */
  mount(text: string): void
  /** Configures, and waits until that config is in force. */
  adopt(config: SidecarConfig): Promise<void>
  /** The exit code; null when a signal ended it, or nothing ran. */
  kill(signal: NodeJS.Signals): Promise<number | null>
  /** Starts again on the same ports and data. */
  start(): Promise<void>
  /** When no call is under way: an answer ends a moment before it is in the books. */
  idle(): Promise<void>
  /** Kills it while nothing is under way, without a word, and starts it again. */
  crash(): Promise<void>
  /** All ledger entries as stored; the process must be down. */
  ledger(): readonly { readonly kind: string; readonly cost: bigint; readonly operation: string }[]
  close(): Promise<void>
}

export interface SidecarOptions {
  /** Added to the process's environment: `FAREBOX_LOG_LEVEL`. */
  readonly environment?: Readonly<Record<string, string>>
}

export async function startSidecar(config: SidecarConfig, options: SidecarOptions = {}): Promise<Sidecar> {
  return onFreePorts(2, ([port = 0, adminPort = 0]) => startOn({ port, adminPort }, config, options))
}

async function startOn(
  { port, adminPort }: { readonly port: number; readonly adminPort: number },
  config: SidecarConfig,
  options: SidecarOptions,
): Promise<Sidecar> {
  const dataDir = mkdtempSync(join(tmpdir(), 'farebox-'))
  const configFile = join(dataDir, 'config.json')
  const url = `http://127.0.0.1:${port}`
  const adminUrl = `http://127.0.0.1:${adminPort}`
  /** A file, into which a line is written before whatever follows it: what was logged is there to be read, also of a process that was killed. */
  const logFile = `${dataDir}.log`
  const log = (): string => readFileSync(logFile, 'utf8')
  let child: ChildProcess | null = null

  const mount = (text: string): void => {
    writeFileSync(`${configFile}.new`, text)
    renameSync(`${configFile}.new`, configFile)
  }
  const configure = (next: SidecarConfig): void => mount(JSON.stringify(next))
  const start = async (): Promise<void> => {
    const logDescriptor = openSync(logFile, 'a')
    const started = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SIDECAR_MAIN], {
      env: {
        ...process.env,
        FAREBOX_CONFIG: configFile,
        FAREBOX_DATA: dataDir,
        FAREBOX_LISTEN: `127.0.0.1:${port}`,
        FAREBOX_ADMIN: `127.0.0.1:${adminPort}`,
        ...options.environment,
      },
      stdio: ['ignore', 'ignore', logDescriptor],
    })
    closeSync(logDescriptor)
    child = endsWithUs(started)
    const end = performance.now() + READY_WITHIN_MS
    while (!(await isReady(adminUrl))) {
      if (started.exitCode !== null || performance.now() > end)
        throw new Error(`the sidecar did not become ready:\n${log().slice(-20_000)}`)
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
  const kill = async (signal: NodeJS.Signals): Promise<number | null> => {
    const running = child
    child = null
    if (running === null || running.exitCode !== null || running.signalCode !== null) return running?.exitCode ?? null
    running.kill(signal)
    await once(running, 'exit')
    return running.exitCode
  }

  const getJson = async (path: string): Promise<unknown> => {
    const answer = await fetch(`${url}${path}`)
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
    return answer.json()
  }

  const idle = async (): Promise<void> => {
    while (((await getJson('/farebox/v1/status')) as SidecarStatus).callsInFlight > 0)
      await new Promise((resolve) => setTimeout(resolve, 5))
  }

  const close = async (): Promise<void> => {
    await kill('SIGKILL')
    rmSync(dataDir, { recursive: true, force: true })
    rmSync(logFile, { force: true })
  }

  configure(config)
  try {
    await start()
  } catch (error) {
    await close()
    throw error
  }
  return {
    url,
    adminUrl,
    dataDir,
    client: (headers = {}, { maxRetries = 0 } = {}) =>
      new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: 'test', defaultHeaders: headers, maxRetries, timeout: ANSWER_WITHIN_MS }),
    getJson,
    async standing(id, query = '') {
      return (await getJson(`/farebox/v1/conversations/${encodeURIComponent(id)}${query}`)) as Standing
    },
    async postJson(path, body) {
      const answer = await fetch(`${url}${path}`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })
      return { status: answer.status, body: await answer.json() }
    },
    metrics: async () => (await fetch(`${adminUrl}/metrics`)).text(),
    log,
    configure,
    mount,
    idle,
    async crash() {
      await idle()
      await kill('SIGKILL')
      await start()
    },
    async adopt(next) {
      configure(next)
      const end = performance.now() + READY_WITHIN_MS
      while (((await getJson('/farebox/v1/status')) as SidecarStatus).config.hash !== next.hash) {
        if (performance.now() > end) throw new Error(`the config was not adopted:\n${log().slice(-20_000)}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    kill,
    start,
    ledger: () => readLedger(dataDir),
    close,
  }
}

/** All that the ledger says was spent, as decimal USD; the process must be down. */
export function ledgerTotal(sidecar: Sidecar): string {
  return formatUsd(sidecar.ledger().reduce((total, entry) => total + entry.cost, 0n))
}

async function isReady(adminUrl: string): Promise<boolean> {
  try {
    return (await fetch(`${adminUrl}/readyz`)).ok
  } catch {
    return false
  }
}

function readLedger(dataDir: string): ReturnType<Sidecar['ledger']> {
  const database = new DatabaseSync(join(dataDir, 'books.sqlite'), { readOnly: true })
  try {
    const statement = database.prepare('SELECT kind, cost, operation FROM ledger ORDER BY sequence')
    statement.setReadBigInts(true)
    return statement.all().map((row) => ({ kind: String(row['kind']), cost: row['cost'] as bigint, operation: String(row['operation']) }))
  } finally {
    database.close()
  }
}

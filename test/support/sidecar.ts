/** A real sidecar process for a test: started on free ports, restarted on the same data, killed in any way. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { formatUsd } from '@farebox/crds/usd.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import OpenAI from 'openai'

const MAIN = fileURLToPath(new URL('../../sidecar/src/main.ts', import.meta.url))
const READY_WITHIN_MS = 20_000

export interface Sidecar {
  /** Origin of the data plane: `http://127.0.0.1:PORT`. */
  readonly url: string
  readonly adminUrl: string
  readonly dataDir: string
  /** The real client, pointed at the data plane; headers go with each request. */
  client(headers?: Record<string, string>, options?: { readonly maxRetries?: number }): OpenAI
  getJson(path: string): Promise<unknown>
  configure(config: SidecarConfig): void
  kill(signal: NodeJS.Signals): Promise<void>
  /** Starts again on the same ports and data. */
  start(): Promise<void>
  /** All ledger entries as stored; the process must be down. */
  ledger(): readonly { readonly kind: string; readonly cost: bigint; readonly operation: string }[]
  close(): Promise<void>
}

export async function startSidecar(config: SidecarConfig): Promise<Sidecar> {
  const dataDir = mkdtempSync(join(tmpdir(), 'farebox-'))
  const configFile = join(dataDir, 'config.json')
  const [port, adminPort] = await freePorts(2)
  const url = `http://127.0.0.1:${port}`
  const adminUrl = `http://127.0.0.1:${adminPort}`
  let child: ChildProcess | null = null
  let output = ''

  const configure = (next: SidecarConfig): void => {
    writeFileSync(`${configFile}.new`, JSON.stringify(next))
    renameSync(`${configFile}.new`, configFile)
  }
  const start = async (): Promise<void> => {
    output = ''
    const started = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN], {
      env: {
        ...process.env,
        FAREBOX_CONFIG: configFile,
        FAREBOX_DATA: dataDir,
        FAREBOX_LISTEN: `127.0.0.1:${port}`,
        FAREBOX_ADMIN: `127.0.0.1:${adminPort}`,
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    started.stderr.on('data', (chunk: Buffer) => {
      output = `${output}${chunk.toString()}`.slice(-20_000)
    })
    child = started
    const end = performance.now() + READY_WITHIN_MS
    while (!(await isReady(adminUrl))) {
      if (started.exitCode !== null || performance.now() > end) throw new Error(`the sidecar did not become ready:\n${output}`)
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child
    child = null
    if (running === null || running.exitCode !== null || running.signalCode !== null) return
    running.kill(signal)
    await once(running, 'exit')
  }

  configure(config)
  await start()
  return {
    url,
    adminUrl,
    dataDir,
    client: (headers = {}, options = {}) =>
      new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: 'test', defaultHeaders: headers, maxRetries: options.maxRetries ?? 0 }),
    async getJson(path) {
      const answer = await fetch(`${url}${path}`)
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
      return answer.json()
    },
    configure,
    kill,
    start,
    ledger: () => readLedger(dataDir),
    async close() {
      await kill('SIGKILL')
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

/** All that the ledger says was spent, as decimal USD; the process must be down. */
export function ledgerTotal(sidecar: Sidecar): string {
  return formatUsd(sidecar.ledger().reduce((total, entry) => total + entry.cost, 0n))
}

/** Ports that were free a moment ago. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
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

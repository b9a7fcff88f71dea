/** The fake provider as a process of its own, for tests and benchmarks where its work must not share the test's event loop. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface ProviderProcess {
  readonly url: string
  readonly pid: number
  /** What `GET /bill` says, of one tag or of all calls. */
  bill(tag?: string): Promise<BillAnswer>
  clearBill(): Promise<void>
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>
}

export interface BillAnswer {
  readonly totalNanoUsd: bigint
  /** Calls still being answered. */
  readonly open: number
  readonly lines: readonly { readonly requestId: string; readonly tag: string | null; readonly nanoUsd: bigint; readonly state: string }[]
}

const MAIN = fileURLToPath(new URL('../provider/main.ts', import.meta.url))
const START_MS_MAX = 30_000

/** Starts `test/provider/main.ts` with `args` (`--data DIR`, `--bill FILE`, `--port N`). Throws when it ends or says nothing within 30 s. */
export async function spawnProvider(args: readonly string[] = []): Promise<ProviderProcess> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })
  const first = await Promise.race([
    once(lines, 'line', { signal: AbortSignal.timeout(START_MS_MAX) }).then(([line]) => String(line)),
    exited.then(([code]) => `ended with ${code}`),
  ]).catch((error: unknown) => {
    child.kill('SIGKILL')
    throw error
  })
  const url = /^listening (http:\S+)$/.exec(first)?.[1]
  if (url === undefined || child.pid === undefined) throw new Error(`the provider did not start: ${first}`)
  return {
    url,
    pid: child.pid,
    async bill(tag) {
      const response = await fetch(`${url}/bill${tag === undefined ? '' : `?tag=${encodeURIComponent(tag)}`}`)
      return billOf(await response.json())
    },
    async clearBill() {
      await fetch(`${url}/bill`, { method: 'DELETE' })
    },
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
      await exited
    },
  }
}

function billOf(answer: unknown): BillAnswer {
  const { totalNanoUsd, open, lines } = answer as {
    totalNanoUsd: string
    open: number
    lines: { requestId: string; tag: string | null; nanoUsd: string; state: string }[]
  }
  return { totalNanoUsd: BigInt(totalNanoUsd), open, lines: lines.map((line) => ({ ...line, nanoUsd: BigInt(line.nanoUsd) })) }
}

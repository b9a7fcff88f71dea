/** The stand-in for the model provider, as a child process: it answers from recordings and keeps its own bill. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import * as z from 'zod'

const PROVIDER_MAIN = fileURLToPath(new URL('../../../test/provider/main.ts', import.meta.url))
const START_MS_MAX = 30_000
const STOP_MS_MAX = 5_000

const BillSchema = z.object({
  totalNanoUsd: z.string().transform(BigInt),
  open: z.int(),
  lines: z.array(z.object({ tag: z.string().nullable(), nanoUsd: z.string().transform(BigInt) })),
})

export interface ProviderBill {
  readonly total: bigint
  /** Nano-dollars by the `x-fake-tag` of the calls; calls without one are in the total only. */
  readonly byTag: ReadonlyMap<string, bigint>
  readonly calls: number
}

export interface ProviderProcess {
  /** With the version: what an app would call its base URL. */
  readonly baseUrl: string
  /** What it charges so far, once no answer is under way any more. */
  bill(): Promise<ProviderBill>
  stop(): Promise<void>
}

/** Starts it on a free port with the recordings at `data` (files or folders). Throws when it ends or says nothing within 30 s. */
export async function startProviderProcess(data: readonly string[]): Promise<ProviderProcess> {
  const child = spawn(process.execPath, [PROVIDER_MAIN, '--port', '0', ...data.flatMap((path) => ['--data', path])], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'], // the channel breaks with this process, however it ends: then the child stops too
  })
  assert(child.stdout !== null && child.stderr !== null) // both are pipes
  let lastWords = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-2_000)
  })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })
  const first = await Promise.race([
    once(lines, 'line', { signal: AbortSignal.timeout(START_MS_MAX) }).then(([line]) => String(line)),
    exited.then(() => ''),
  ]).catch(() => '')
  const url = /^listening (http:\S+)$/.exec(first)?.[1]
  if (url === undefined) {
    child.kill('SIGKILL')
    throw new Error(`the provider did not start: ${lastWords.trim() || first || 'it said nothing'}`)
  }
  return {
    baseUrl: `${url}/v1`,
    bill: () => readBill(url),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const killer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX)
      child.kill('SIGTERM')
      await exited
      clearTimeout(killer)
    },
  }
}

async function readBill(url: string): Promise<ProviderBill> {
  const end = performance.now() + STOP_MS_MAX
  for (;;) {
    const answer = await fetch(`${url}/bill`)
    const bill = BillSchema.parse(await answer.json())
    if (bill.open > 0 && performance.now() < end) continue
    const byTag = new Map<string, bigint>()
    for (const { tag, nanoUsd } of bill.lines) if (tag !== null) byTag.set(tag, (byTag.get(tag) ?? 0n) + nanoUsd)
    return { total: bill.totalNanoUsd, byTag, calls: bill.lines.length }
  }
}

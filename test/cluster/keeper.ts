/**
 * Keeps the processes of one cluster, and ends them all when whoever started it is gone, however that came about:
 * `keeper.ts FOLDER` ends when its stdin does, `keeper.ts FOLDER --standing` when it is told to. Told by lines of JSON on a
 * socket in the folder, which it removes in the end.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { SOCKET } from './keeper-client.ts'
import type { Answer, Order } from './keeper-client.ts'

/** Go collects garbage when its heap has grown by so many percent. They live for a minute: memory costs less than collecting it. */
const GOGC = '300'
const CLEAN_UPS_MAX = 50
const CLEAN_UP_EVERY_MS = 100
const WRAPPER_MS_MAX = 3_000

interface Kept {
  readonly child: ChildProcess
  readonly isWrapped: boolean
}

const [folder, mode] = process.argv.slice(2)
if (folder === undefined) throw new Error('keeper.ts needs a folder')
const kept = new Map<string, Kept>()
const cleanUps: (readonly string[])[] = []
let ending: Promise<void> | null = null

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => void leave())
if (mode !== '--standing') process.stdin.once('close', () => void leave()).resume()

const server = createServer((connection) => {
  connection.on('error', () => connection.destroy())
  createInterface({ input: connection }).on('line', (line) => {
    void obey(JSON.parse(line) as Order)
      .catch((error: unknown): Answer => ({ error: error instanceof Error ? error.message : String(error) }))
      .then((answer) => connection.end(`${JSON.stringify(answer)}\n`))
  })
})
server.listen(join(folder, SOCKET))

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case 'start':
      return { pid: await start(order) }
    case 'signal': {
      const found = kept.get(order.name)
      if (found === undefined) throw new Error(`${order.name} does not run`)
      const ended = once(found.child, 'exit')
      signal(found, order.signal)
      if (order.signal === 'SIGKILL' || order.signal === 'SIGTERM') await ended
      return {}
    }
    case 'look':
      return { pid: kept.get(order.name)?.child.pid ?? null }
    case 'cleanUp':
      cleanUps.push(order.command)
      return {}
    case 'end':
      await endAll()
      setImmediate(() => void leave())
      return { pid: process.pid }
    default:
      throw new Error('no such order')
  }
}

async function start({ name, command: [program, ...args], isWrapped = false }: Extract<Order, { do: 'start' }>): Promise<number> {
  if (program === undefined || ending !== null) throw new Error(`${name} cannot be started`)
  if (kept.has(name)) throw new Error(`${name} runs already`)
  const log = openSync(join(folder ?? '', 'log', `${name}.log`), 'a')
  const child = spawn(program, args, { stdio: ['ignore', log, log], env: { ...process.env, GOGC: process.env['GOGC'] ?? GOGC } })
  closeSync(log)
  await once(child, 'spawn')
  kept.set(name, { child, isWrapped })
  child.once('exit', () => kept.delete(name))
  return child.pid ?? 0
}

/** At once: nothing that they keep is worth a farewell. The last that was started goes first. */
function endAll(): Promise<void> {
  ending ??= (async () => {
    for (const found of [...kept.values()].toReversed()) {
      const ended = once(found.child, 'exit')
      signal(found, 'SIGKILL')
      const late = setTimeout(() => found.child.kill('SIGKILL'), WRAPPER_MS_MAX)
      await ended
      clearTimeout(late)
    }
    for (const [program, ...args] of cleanUps) await cleanUp(program ?? 'true', args)
    rmSync(folder ?? '', { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  })()
  return ending
}

/** A wrapper that were killed itself would leave its child to nobody. */
function signal({ child, isWrapped }: Kept, name: NodeJS.Signals): void {
  const within = isWrapped ? childrenOf(child.pid ?? 0) : []
  if (within.length === 0) child.kill(name)
  for (const pid of within) process.kill(pid, name)
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      .map(Number)
      .filter((child) => child > 0)
  } catch {
    return []
  }
}

/** What a killed process held may be busy for a moment more. */
async function cleanUp(program: string, args: readonly string[]): Promise<void> {
  for (let tries = 0; tries < CLEAN_UPS_MAX; tries++) {
    if (spawnSync(program, args, { stdio: 'ignore' }).status === 0) return
    await sleep(CLEAN_UP_EVERY_MS)
  }
}

async function leave(): Promise<void> {
  await endAll()
  process.exit(0)
}

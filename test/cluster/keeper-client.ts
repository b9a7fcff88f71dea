/** Speaks to the keeper of a cluster, which may be another process's. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, openSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isAlive } from './processes.ts'

/** Of the keeper, in the cluster's folder. */
export const SOCKET = 'keeper.sock'
const MAIN = fileURLToPath(new URL('keeper.ts', import.meta.url))
const START_MS_MAX = 20_000
const POLL_MS = 10
const END_MS_MAX = 5_000

export type Order =
  /** `isWrapped`: the command only makes or enters namespaces, starts its child in them and waits: signals are for that one. */
  | { readonly do: 'start'; readonly name: string; readonly command: readonly string[]; readonly isWrapped?: boolean }
  /** Answered once it has ended, when the signal is one that ends it. */
  | { readonly do: 'signal'; readonly name: string; readonly signal: NodeJS.Signals }
  | { readonly do: 'look'; readonly name: string }
  /** Something to run after all have ended, again and again for 5 s until it succeeds. */
  | { readonly do: 'cleanUp'; readonly command: readonly string[] }
  /** Answered with the keeper's own number, which goes last. */
  | { readonly do: 'end' }
export interface Answer {
  readonly pid?: number | null
  readonly error?: string
}

/**
 * Starts a keeper for `folder`. Unless it is `standing`, it ends everything when this process ends, even when that is killed.
 * It does not keep this process from ending.
 */
export async function startKeeper(folder: string, { standing }: { readonly standing: boolean }): Promise<void> {
  mkdirSync(join(folder, 'log'), { recursive: true })
  const log = openSync(join(folder, 'log', 'keeper.log'), 'a')
  const args = ['--disable-warning=ExperimentalWarning', MAIN, folder, ...(standing ? ['--standing'] : [])]
  const child = spawn(process.execPath, args, { detached: true, stdio: [standing ? 'ignore' : 'pipe', log, log] })
  child.unref()
  // stdin of a child is a socket here; it is held open until this process ends, and must not hold it up.
  ;(child.stdin as Socket | null)?.unref()
  const end = performance.now() + START_MS_MAX
  while (!existsSync(join(folder, SOCKET))) {
    if (child.exitCode !== null || performance.now() > end) throw new Error(`the keeper of ${folder} did not start`)
    await sleep(POLL_MS)
  }
}

/** Throws when there is no keeper, or when it cannot do it. */
export async function order(folder: string, what: Order): Promise<Answer> {
  const connection = connect(join(folder, SOCKET))
  await once(connection, 'connect')
  connection.write(`${JSON.stringify(what)}\n`)
  const answer = JSON.parse(await text(connection)) as Answer
  if (answer.error !== undefined) throw new Error(answer.error)
  return answer
}

/** Ends all that the keeper keeps, and waits until it is gone itself. */
export async function endAll(folder: string): Promise<void> {
  const { pid } = await order(folder, { do: 'end' })
  const end = performance.now() + END_MS_MAX
  while (isAlive(pid ?? 0) && performance.now() < end) await sleep(POLL_MS)
}

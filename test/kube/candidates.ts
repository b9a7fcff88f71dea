/** Several candidates for one Lease, and the proof that never two of them wrote. */
import assert from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitFor } from '../support/wait-for.ts'
import type { CandidateOrder, CandidateTask, CandidateWord } from './candidate.ts'

export interface Candidate {
  readonly identity: string
  readonly process: ChildProcess
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>
  readonly stderr: () => string
  leading: boolean
  holder: string
  address: string
  tell(order: CandidateOrder): void
}

const UNSHARE = ['--pid', '--fork', '--kill-child']

/** May this user make a place for a first process? */
export function canBeFirst(): boolean {
  return spawnSync('unshare', [...UNSHARE, 'true']).status === 0
}

export class Candidates {
  readonly #folder = mkdtempSync(join(tmpdir(), 'farebox-election-'))
  readonly #task: Omit<CandidateTask, 'identity' | 'journal'>
  readonly #all: Candidate[] = []

  constructor(task: Omit<CandidateTask, 'identity' | 'journal'>) {
    this.#task = task
  }

  /** `first`: as the first process of a container, which signals from within do not end. */
  start(identity: string, place: 'child' | 'first' = 'child'): Candidate {
    const task: CandidateTask = { ...this.#task, identity, journal: join(this.#folder, 'journal') }
    const flags = ['--disable-warning=ExperimentalWarning']
    const child = fork(new URL('./candidate.ts', import.meta.url), [JSON.stringify(task)], {
      ...(place === 'child' ? { execArgv: flags } : { execPath: 'unshare', execArgv: [...UNSHARE, process.execPath, ...flags] }),
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    })
    let stderr = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const candidate: Candidate = {
      identity,
      process: child,
      exited: once(child, 'exit').then(([code, signal]) => ({ code: code as number | null, signal: signal as string | null })),
      stderr: () => stderr,
      leading: false,
      holder: '',
      address: '',
      tell: (order) => child.send(order),
    }
    child.on('message', (word: CandidateWord) => {
      if ('leading' in word) candidate.leading = true
      else Object.assign(candidate, word)
    })
    this.#all.push(candidate)
    return candidate
  }

  writes(): readonly { readonly atMs: number; readonly identity: string }[] {
    const journal = join(this.#folder, 'journal')
    if (!existsSync(journal)) return []
    return readFileSync(journal, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [atMs, identity = ''] = line.split(' ')
        return { atMs: Number(atMs), identity }
      })
  }

  /** Once the last of them has written. In the order in which they wrote, each once: whoever comes back after another did is a second writer. */
  async assertOneWriter(expected: readonly string[]): Promise<void> {
    await waitFor(`${expected.at(-1)} writes`, () => this.writes().at(-1)?.identity === expected.at(-1))
    const turns: string[] = []
    for (const { identity } of this.writes().toSorted((a, b) => a.atMs - b.atMs)) if (turns.at(-1) !== identity) turns.push(identity)
    assert.deepEqual(turns, expected)
    // In the order in which they arrived, too.
    const arrived: string[] = []
    for (const { identity } of this.writes()) if (arrived.at(-1) !== identity) arrived.push(identity)
    assert.deepEqual(arrived, expected)
  }

  async end(): Promise<void> {
    for (const { process: child, exited } of this.#all) {
      child.kill('SIGKILL')
      await exited
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** The `farebox` command as people start it: with the fake provider, and on copies of the example. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before } from 'node:test'
import { fileURLToPath } from 'node:url'
import OpenAI from 'openai'
import { freePorts, onFreePorts, PortTaken } from './free-ports.ts'
import { spawnProvider } from './provider-process.ts'
import type { ProviderProcess } from './provider-process.ts'
import { EXAMPLE_CONVERSATIONS } from './recorded-data.ts'

export const FAREBOX = fileURLToPath(new URL('../../bin/farebox', import.meta.url))
export const EXAMPLE = fileURLToPath(new URL('../../examples/support-desk', import.meta.url))
export const COMMAND_WAIT_MS = 60_000

export interface Ended {
  readonly code: number | null
  readonly output: string
}

export interface Farebox {
  readonly pid: number
  /** Waits for words that were not yet waited for. */
  says(pattern: RegExp): Promise<RegExpExecArray>
  signal(name: NodeJS.Signals): void
  /** Closes the pipes that it writes to. */
  listenNoMore(): void
  ended(): Promise<Ended>
  stop(): Promise<Ended>
}

interface ExampleCopy {
  readonly folder: string
  readonly tiers: string
}

export interface FareboxStage {
  /** `http://127.0.0.1:PORT` of the fake provider. */
  readonly providerUrl: () => string
  readonly farebox: (...args: readonly string[]) => Farebox
  readonly fareboxWith: (environment: Readonly<Record<string, string>>, args: readonly string[]) => Farebox
  /** `farebox run` on a copy of the example, once it is ready. */
  readonly startRun: (more?: readonly string[]) => Promise<ExampleCopy & { readonly farebox: Farebox; readonly url: string }>
  readonly copyOfExample: () => ExampleCopy
}

/** For the tests of one file: a provider for all of them; what one of them started ends with it. */
export function stageFarebox(): FareboxStage {
  let provider: ProviderProcess
  before(async () => {
    provider = await spawnProvider(['--data', EXAMPLE_CONVERSATIONS])
  })
  after(() => provider.stop())

  const running: Farebox[] = []
  const folders: string[] = []
  afterEach(async () => {
    for (const farebox of running.splice(0)) await farebox.stop()
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })

  const farebox: FareboxStage['farebox'] = (...args) => fareboxWith({}, args)
  const fareboxWith: FareboxStage['fareboxWith'] = (environment, args) => {
    const started = startFarebox(environment, args)
    running.push(started)
    return started
  }
  const copyOfExample = (): ExampleCopy => {
    const folder = mkdtempSync(join(tmpdir(), 'farebox-run-'))
    folders.push(folder)
    cpSync(EXAMPLE, folder, { recursive: true })
    return { folder, tiers: join(folder, 'tiers.yaml') }
  }
  const startRun: FareboxStage['startRun'] = async (more = []) => {
    const { folder, tiers } = copyOfExample()
    const options = ['-f', folder, '--data', join(folder, 'data'), '--upstream', `openai=${provider.url}/v1`, ...more]
    return onFreePorts(2, async ([listen, admin]) => {
      const started = farebox('run', ...options, '--listen', `127.0.0.1:${listen}`, '--admin', `127.0.0.1:${admin}`)
      await untilReady(started)
      return { farebox: started, url: `http://127.0.0.1:${listen}`, folder, tiers }
    })
  }

  return { providerUrl: () => provider.url, farebox, fareboxWith, startRun, copyOfExample }
}

/** Waits for words that were not yet waited for, in what a program has said by now. Throws `complaint` when they do not come, or it `isOver`. */
export function heardIn(complaint: string, output: () => string, isOver: () => boolean): (pattern: RegExp) => Promise<RegExpExecArray> {
  let heard = 0
  return async (pattern) => {
    const end = performance.now() + COMMAND_WAIT_MS
    for (;;) {
      const found = pattern.exec(output().slice(heard))
      if (found !== null) {
        heard += found.index + found[0].length
        return found
      }
      if (isOver() || performance.now() > end) throw new Error(`${complaint} ${String(pattern)}:\n${output()}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}

function startFarebox(more: Readonly<Record<string, string>>, args: readonly string[]): Farebox {
  const { OPENAI_API_KEY: _, ...others } = process.env
  const environment = { ...others, ...more }
  const child = spawn(FAREBOX, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment })
  const exited = once(child, 'close')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  const ended = async (): Promise<Ended> => {
    await exited
    return { code: child.exitCode, output }
  }
  const farebox: Farebox = {
    pid: child.pid ?? 0,
    says: heardIn(
      'it did not say',
      () => output,
      () => child.exitCode !== null,
    ),
    signal: (name) => void child.kill(name),
    listenNoMore() {
      child.stdout.destroy()
      child.stderr.destroy()
    },
    ended,
    stop() {
      child.kill('SIGTERM')
      return ended()
    },
  }
  return farebox
}

async function untilReady(run: Farebox): Promise<void> {
  try {
    await run.says(/ready: /)
  } catch (error) {
    throw / is in use: choose another with --/.test(String(error)) ? new PortTaken('farebox run', { cause: error }) : error
  }
}

export async function freeListen(): Promise<readonly string[]> {
  const [listen, admin] = await freePorts(2)
  return ['--listen', `127.0.0.1:${listen}`, '--admin', `127.0.0.1:${admin}`]
}

export function edit(path: string, from: string, to: string): void {
  const text = readFileSync(path, 'utf8')
  assert.ok(text.includes(from), `${path} holds ${from}`)
  writeFileSync(path, text.replace(from, to))
}

export function clientOf(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: 'test', maxRetries: 0 })
}

export async function getJson(url: string): Promise<Record<string, unknown>> {
  const answer = await fetch(url)
  assert.equal(answer.status, 200, url)
  return (await answer.json()) as Record<string, unknown>
}

export function childrenOf(pid: number): readonly number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return list === '' ? [] : list.split(' ').map(Number)
}

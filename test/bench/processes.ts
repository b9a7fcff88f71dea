/** The processes of the bench: the provider, the load generator, the sidecar as images run it, and the floors it is held against. */
import { fork, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { SidecarProcess } from '@farebox/operator/laptop/sidecar-process.ts'
import { build } from 'esbuild'
import { BUNDLE_MAIN, NODE_FLAGS } from '../../sidecar/build.ts'
import { freePorts } from '../support/free-ports.ts'
import type { Command, LoadResult, RoundTrips } from './loads.ts'

const START_MS_MAX = 20_000

/** A program of the bench that listens. */
export interface Listening {
  readonly pid: number
  readonly port: number
  stop(): Promise<void>
}

export function startUpstream(): Promise<Listening> {
  return startListening(new URL('upstream.ts', import.meta.url), [])
}

/** Bundled into `folder` and with flags as the sidecar is, so that what differs is the work: what strips types takes 20 MB. */
export async function startRelay(folder: string, upstreamPort: number): Promise<Listening> {
  const outfile = join(folder, 'relay.cjs')
  await build({ entryPoints: [fileURLToPath(new URL('relay.ts', import.meta.url))], outfile, bundle: true, platform: 'node' })
  return startListening(pathToFileURL(outfile), [String(upstreamPort)], NODE_FLAGS)
}

async function startListening(program: URL, args: readonly string[], flags: readonly string[] = []): Promise<Listening> {
  const child = spawn(process.execPath, [...flags, '--disable-warning=ExperimentalWarning', fileURLToPath(program), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })
  const [line] = await once(lines, 'line', { signal: AbortSignal.timeout(START_MS_MAX) })
  const port = Number(/^listening (\d+)$/.exec(String(line))?.[1])
  const { pid } = child
  if (!Number.isInteger(port) || pid === undefined) throw new Error(`${program.pathname} said: ${String(line)}`)
  return { pid, port, stop: () => end(child) }
}

export interface Generator {
  /** One command at a time. */
  load(command: Command): Promise<LoadResult>
  stop(): Promise<void>
}

export function startGenerator(): Generator {
  const child = fork(new URL('load.ts', import.meta.url))
  return { load: (command) => answerOf<LoadResult>(child, command), stop: () => end(child) }
}

export interface BareRoundTrips {
  readonly pid: number
  /** One run at a time; resolves with how many turns it had. */
  run(wanted: RoundTrips): Promise<number>
  stop(): Promise<void>
}

export async function startRoundTrips(url: string): Promise<BareRoundTrips> {
  const child = fork(new URL('round-trips.ts', import.meta.url), [url])
  await once(child, 'message', { signal: AbortSignal.timeout(START_MS_MAX) })
  const { pid } = child
  if (pid === undefined) throw new Error('the bare round trips ended')
  return { pid, run: (wanted) => answerOf<number>(child, wanted), stop: () => end(child) }
}

function answerOf<Answer>(child: ChildProcess, message: Command | RoundTrips): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const failed = (): void => reject(new Error(`${child.spawnargs.at(-1)} ended`))
    child.once('exit', failed)
    child.once('message', (answer) => {
      child.off('exit', failed)
      resolve(answer as Answer)
    })
    child.send(message)
  })
}

export interface BenchSidecar {
  readonly pid: number
  /** Of the data plane. */
  readonly port: number
  stop(): Promise<void>
}

/** From the bundle, which must be there. `folder` is made for its data; `store`: one that several share. */
export async function startBenchSidecar(
  folder: string,
  configFile: string,
  store?: { readonly url: string; readonly namespace: string },
): Promise<BenchSidecar> {
  mkdirSync(folder, { recursive: true })
  const [listen = 0, admin = 0] = await freePorts(2)
  const sidecar = new SidecarProcess({
    program: { main: BUNDLE_MAIN, flags: NODE_FLAGS },
    configFile,
    dataDir: folder,
    logFile: join(folder, 'sidecar.log'),
    listen: { host: '127.0.0.1', port: listen },
    admin: { host: '127.0.0.1', port: admin },
    ...(store === undefined ? {} : { store }),
    say: console.log,
  })
  await sidecar.start()
  const { pid } = sidecar
  if (pid === null) throw new Error('the sidecar ended')
  return { pid, port: listen, stop: () => sidecar.stop() }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

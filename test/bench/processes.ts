/** The processes of the bench: the provider, the load generator, and the sidecar as images run it. */
import { fork, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { SidecarProcess } from '@farebox/operator/laptop/sidecar-process.ts'
import { BUNDLE_MAIN, NODE_FLAGS } from '../../sidecar/build.ts'
import { freePorts } from '../support/free-ports.ts'
import type { Command, LoadResult } from './loads.ts'

const START_MS_MAX = 20_000

export interface Upstream {
  readonly port: number
  stop(): Promise<void>
}

export async function startUpstream(): Promise<Upstream> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(new URL('upstream.ts', import.meta.url))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })
  const [line] = await once(lines, 'line', { signal: AbortSignal.timeout(START_MS_MAX) })
  const port = Number(/^listening (\d+)$/.exec(String(line))?.[1])
  if (!Number.isInteger(port)) throw new Error(`the bench's provider said: ${String(line)}`)
  return { port, stop: () => end(child) }
}

export interface Generator {
  /** One command at a time. */
  load(command: Command): Promise<LoadResult>
  stop(): Promise<void>
}

export function startGenerator(): Generator {
  const child = fork(fileURLToPath(new URL('load.ts', import.meta.url)))
  return {
    load: (command) =>
      new Promise((resolve, reject) => {
        const failed = (): void => reject(new Error('the load generator ended'))
        child.once('exit', failed)
        child.once('message', (result) => {
          child.off('exit', failed)
          resolve(result as LoadResult)
        })
        child.send(command)
      }),
    stop: () => end(child),
  }
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

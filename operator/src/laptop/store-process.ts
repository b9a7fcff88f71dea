/** A Redis or Valkey of our own, for replicas on one machine: on a free port, in memory, gone with us. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freeAddresses } from './addresses.ts'

const PROGRAMS = ['valkey-server', 'redis-server'] as const
const READY_MS_MAX = 10_000
const READY_POLL_MS = 25

export interface StoreProcess {
  /** `redis://127.0.0.1:PORT` */
  readonly url: string
  /** `valkey-server` or `redis-server`. */
  readonly program: string
  stop(): Promise<void>
}

/** Installs it where it is missing and may. Throws an `Error` that says what to install, or what it said as it ended. */
export async function startStoreProcess(say: (line: string) => void): Promise<StoreProcess> {
  const program = storeProgram(say)
  if (program === null) throw new Error('no Valkey or Redis on this machine: install the package `redis-server` or `valkey-server`')
  const [address] = await freeAddresses(1)
  if (address === undefined) throw new Error('no free port on this machine')
  const folder = mkdtempSync(join(tmpdir(), 'farebox-store-'))
  const options = ['--port', String(address.port), '--bind', address.host, '--dir', folder, '--save', '', '--loglevel', 'warning']
  const child = spawn(program, options, { stdio: ['ignore', 'ignore', 'inherit'] })
  const leave = (): void => void child.kill('SIGKILL') // it must not outlive us, however we end
  process.once('exit', leave)
  const stop = async (): Promise<void> => {
    process.off('exit', leave)
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      await ended
    }
    rmSync(folder, { recursive: true, force: true })
  }
  const end = performance.now() + READY_MS_MAX
  while (!(await accepts(address.port))) {
    if (child.exitCode !== null || performance.now() > end) {
      await stop()
      throw new Error(`${program} does not answer on port ${address.port}`)
    }
    await sleep(READY_POLL_MS)
  }
  return { url: `redis://${address.host}:${address.port}`, program, stop }
}

/** The program that is there, or was put there; null: none. */
export function storeProgram(say: (line: string) => void): string | null {
  const found = installed()
  if (found !== null || process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) return found
  say('redis-server is missing; installing it with apt-get ...')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const install = (): boolean =>
    spawnSync('apt-get', ['install', '-y', '-qq', '-o', 'DPkg::Lock::Timeout=120', '--no-install-recommends', 'redis-server'], { env })
      .status === 0
  if (!install()) {
    spawnSync('apt-get', ['update', '-qq'], { env })
    install()
  }
  return installed()
}

function installed(): string | null {
  return PROGRAMS.find((program) => spawnSync(program, ['--version']).status === 0) ?? null
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** A real Redis or Valkey for tests: on a free port, in a folder of its own, gone when it is stopped. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { storeProgram } from '@farebox/operator/laptop/store-process.ts'
import { Redis } from 'ioredis'
import { endsWithUs } from './children.ts'
import { onFreePorts, PortTaken } from './free-ports.ts'

const READY_MS_MAX = 60_000

export interface TestServer {
  readonly port: number
  readonly url: string
  readonly process: ChildProcess
  stop(): Promise<void>
}

/**
 * The program to start, installed where that is ours to do. Null where it is missing: such tests are left out, in one line.
 * In CI a missing server is an error.
 */
export function redisProgram(): string | null {
  const found = storeProgram(console.log)
  if (found !== null) return found
  const missing = 'redis-server is missing (apt-get install redis-server)'
  if ((process.env['CI'] ?? '') !== '') throw new Error(missing)
  console.log(`${missing}: the tests that need it are left out`)
  return null
}

export async function startRedis(program: string, more: readonly string[] = []): Promise<TestServer> {
  return onFreePorts(1, async ([port = 0]) => {
    const server = start(program, port, more)
    try {
      await answering(server)
      return server
    } catch (error) {
      await server.stop()
      throw error
    }
  })
}

function start(program: string, port: number, more: readonly string[]): TestServer {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-redis-'))
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--loglevel', 'warning', ...more]
  const child = endsWithUs(spawn(program, options, { stdio: ['ignore', 'ignore', 'inherit'] }))
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
    rmSync(folder, { recursive: true, force: true })
  }
  return { port, url: `redis://127.0.0.1:${port}`, process: child, stop }
}

async function answering({ port, process: child }: TestServer): Promise<void> {
  const client = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 25, maxRetriesPerRequest: null })
  client.on('error', () => undefined)
  try {
    const pong = await Promise.race([client.ping(), sleep(READY_MS_MAX, null, { ref: false }), once(child, 'exit')])
    if (Array.isArray(pong))
      // It, or a node of a cluster the second one that it listens to, 10,000 above.
      throw new PortTaken(`redis-server ended before it answered on port ${port}`)
    if (pong !== 'PONG') throw new Error(`redis-server does not answer on port ${port}`)
  } finally {
    client.disconnect()
  }
}

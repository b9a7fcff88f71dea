import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { freePorts, onFreePorts } from './free-ports.ts'

test('ports are below those of connections, and differ', async () => {
  const ports = await freePorts(50)
  assert.equal(new Set(ports).size, 50)
  assert.ok(ports.every((port) => port >= 10_000 && port < 30_000))
})

test('processes that run side by side choose among ports of their own', async (context) => {
  const script = `const { freePorts } = await import('${new URL('free-ports.ts', import.meta.url).href}')
    process.on('message', () => {})
    process.send(await freePorts(250))`
  const others = Array.from({ length: 3 }, () =>
    spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  )
  context.after(() => others.forEach((other) => other.kill()))
  const chosen = await Promise.all(others.map(async (other) => ((await once(other, 'message')) as [number[]])[0]))
  const stretches = [...chosen, await freePorts(250)].map((ports) => new Set(ports.map((port) => Math.floor(port / 200))))
  assert.equal(
    new Set(stretches.flatMap((some) => [...some])).size,
    stretches.reduce((sum, { size }) => sum + size, 0),
  )
})

test('who finds a port taken starts again on another, three times at most; another error is told at once', async (context) => {
  const holder = createServer()
  context.after(() => holder.close())
  const tried: number[] = []
  const taken = async (port = 0): Promise<void> => {
    tried.push(port)
    if (!holder.listening) await once(holder.listen(port, '127.0.0.1'), 'listening')
    const server = createServer().listen(tried[0], '127.0.0.1')
    await once(server, 'listening')
  }
  await assert.rejects(
    onFreePorts(1, ([port]) => taken(port)),
    /EADDRINUSE/,
  )
  assert.equal(new Set(tried).size, 3)
  let starts = 0
  const broken = onFreePorts(1, async () => {
    starts += 1
    throw new Error('it is broken')
  })
  await assert.rejects(broken, /it is broken/)
  assert.equal(starts, 1)
})

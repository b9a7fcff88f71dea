import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { freePorts, onFreePorts } from './free-ports.ts'

test('ports are below those of connections, and differ', async () => {
  const ports = await freePorts(50)
  assert.equal(new Set(ports).size, 50)
  assert.ok(ports.every((port) => port >= 10_000 && port < 30_000))
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

import assert from 'node:assert/strict'
import { createServer, get } from 'node:http'
import type { IncomingMessage, Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { STREAM_HEADERS } from '@farebox/crds/delivery.ts'
import type { DeliveryCount } from './events.ts'
import { helloOf, streamConfigOf, StreamHub } from './stream-hub.ts'
import type { Governing, StreamConfig, StreamHubOptions } from './stream-hub.ts'

const config = (version: number, more: Partial<StreamConfig> = {}): StreamConfig => ({
  budget: 'shop/support',
  version,
  hash: `h${version}`,
  schemaVersion: 1,
  text: JSON.stringify({ version }),
  ...more,
})

let counts: Map<DeliveryCount, number>
let governing: Map<string, Governing>
let hub: StreamHub
let server: Server
let answers: IncomingMessage[]
beforeEach(() => {
  counts = new Map()
  governing = new Map()
  answers = []
})
afterEach(() => {
  for (const answer of answers) answer.destroy()
  server.close()
})

async function start(options: Partial<StreamHubOptions> = {}): Promise<void> {
  hub = new StreamHub({
    configFor: ({ name }) => governing.get(name) ?? { status: 'pending' },
    events: { count: (what, by = 1) => counts.set(what, (counts.get(what) ?? 0) + by), log: () => undefined },
    nowMs: () => 42,
    debounceMs: 10,
    ...options,
  })
  server = createServer((incoming, outgoing) => {
    const [, namespace = '', name = ''] = (incoming.url ?? '').split('/')
    const hello = helloOf(incoming.headers)
    if (hello === null || !hub.hasRoom() || !hub.mayAccept()) return void outgoing.writeHead(503).end()
    hub.open({ namespace, name, uid: name, serviceAccount: 'default' }, hello, outgoing)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
}

interface Reader {
  readonly answer: IncomingMessage
  text(): string
  /** What came, beats left out. */
  events(): readonly string[]
}

async function connect(name: string, headers: Record<string, string> = {}, namespace = 'shop'): Promise<Reader> {
  const { port } = server.address() as AddressInfo
  const all = { [STREAM_HEADERS.protocol]: '1', [STREAM_HEADERS.schemas]: '1', ...headers }
  const asked = get({ port, host: '127.0.0.1', path: `/${namespace}/${name}`, headers: all, agent: false })
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  answers.push(answer)
  answer.on('error', () => undefined)
  let text = ''
  if (answer.statusCode === 200) answer.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await sleep(30)
  return {
    answer,
    text: () => text,
    events: () => [...text.matchAll(/^event: (?!beat)(\w+)\ndata: (.*)$/gm)].map(([, event, data]) => `${event} ${data}`),
  }
}

/** A busy machine takes its time. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = performance.now() + 20_000
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`${what} did not come to be`)
    await sleep(5)
  }
}
async function told(reader: Reader, events: readonly string[]): Promise<void> {
  await until(`${events.length} events`, () => reader.events().length >= events.length)
  assert.deepEqual(reader.events(), events)
}

describe('a sidecar is told', () => {
  test('its config when it comes and whenever that changes, once for changes that follow one another', async () => {
    await start()
    governing.set('a', { status: 'governed', config: config(1) })
    const a = await connect('a')
    const b = await connect('b')
    await told(a, ['config {"version":1}'])
    for (const version of [2, 3, 4]) {
      governing.set('a', { status: 'governed', config: config(version) })
      hub.changed('shop')
    }
    hub.changed('other')
    await told(a, ['config {"version":1}', 'config {"version":4}'])
    assert.deepEqual(b.events(), [], 'nothing is said of what is not known yet')
    await until('a beat', () => a.text().includes('beat'))
    assert.match(a.text(), /event: beat\ndata: {"nowMs":42}/)
    hub.changed()
    await sleep(30)
    assert.equal(a.events().length, 2, 'what is the same is not told again')
  })

  test('that it has it already, that no budget governs it, and that one does again', async () => {
    await start()
    governing.set('a', { status: 'governed', config: config(1) })
    const a = await connect('a', { [STREAM_HEADERS.have]: 'h1' })
    governing.set('a', { status: 'released' })
    hub.changed()
    await told(a, ['current {"hash":"h1"}', 'released {}'])
    governing.set('a', { status: 'governed', config: config(1) })
    hub.changed()
    await told(a, ['current {"hash":"h1"}', 'released {}', 'current {"hash":"h1"}'])
  })

  test('a config again when its version grows, for the first may have been refused as older than what it has', async () => {
    await start()
    governing.set('a', { status: 'governed', config: config(1) })
    governing.set('b', { status: 'governed', config: config(1) })
    const a = await connect('a', { [STREAM_HEADERS.have]: 'h2' })
    const b = await connect('b', { [STREAM_HEADERS.have]: 'h1' })
    const raised = config(3, { hash: 'h1' })
    governing.set('a', { status: 'governed', config: raised })
    governing.set('b', { status: 'governed', config: raised })
    hub.changed()
    await told(a, ['config {"version":1}', 'config {"version":3}'])
    await told(b, ['current {"hash":"h1"}', 'current {"hash":"h1"}'])
  })

  test('T67: of a config that it cannot read its name alone, which is counted, and a later one that it can', async () => {
    await start()
    governing.set('a', { status: 'governed', config: config(1, { schemaVersion: 2 }) })
    governing.set('b', { status: 'governed', config: config(1, { schemaVersion: 2 }) })
    const older = await connect('a', { [STREAM_HEADERS.schemas]: '1' })
    const newer = await connect('b', { [STREAM_HEADERS.schemas]: '1, 2' })
    await told(newer, ['config {"version":1}'])
    await told(older, ['current {"hash":"h1"}'])
    assert.equal(counts.get('schemaUnsupported'), 1)
    assert.deepEqual(
      [...hub.connected()].map(({ pod, isUnsupported }) => [pod.name, isUnsupported]),
      [
        ['a', true],
        ['b', false],
      ],
    )
    governing.set('a', { status: 'governed', config: config(2) })
    hub.changed()
    await told(older, ['current {"hash":"h1"}', 'config {"version":2}'])
  })

  test('whom to trust, and where to go when the replica goes', async () => {
    await start()
    hub.trust('PEM 1')
    const a = await connect('a')
    hub.trust('PEM 1')
    hub.trust('PEM 2')
    hub.drain(5_000)
    await once(a.answer, 'close')
    assert.deepEqual(a.events(), ['trust {"caBundle":"PEM 1"}', 'trust {"caBundle":"PEM 2"}', 'goodbye {"withinMs":5000}'])
    assert.equal((await connect('b')).answer.statusCode, 503)
    assert.equal(hub.size, 0)
  })
})

test('a reader that takes nothing gets the newest config only, and is cut off in the end', async () => {
  // Nor may a busy machine take so long for the first half.
  await start({ slowMs: 8_000, beatMs: 100 })
  const text = (version: number): string => JSON.stringify({ version, filler: 'x'.repeat(1024 * 1024) })
  governing.set('a', { status: 'governed', config: config(1) })
  const a = await connect('a')
  a.answer.pause()
  for (let version = 2; version <= 30; version++) {
    governing.set('a', { status: 'governed', config: config(version, { text: text(version) }) })
    hub.changed()
    await sleep(15)
  }
  a.answer.resume()
  await until('the newest', () => a.text().includes('"version":30,') && a.text().endsWith('\n\n'))
  const versions = a.events().map((event) => Number(/"version":(\d+)/.exec(event)?.[1]))
  assert.equal(versions.at(-1), 30)
  assert.ok(versions.length < 29, `${versions.length} configs of a mebibyte were sent`)

  a.answer.pause()
  for (let version = 31; version <= 60; version++) {
    governing.set('a', { status: 'governed', config: config(version, { text: text(version) }) })
    hub.changed()
    await sleep(15)
  }
  await until('the end', () => hub.size === 0)
  assert.equal(counts.get('slowReader'), 1)
})

test('a pod has one stream: when it comes again the former one ends; when it is gone its stream is', async () => {
  await start()
  const first = await connect('a')
  const second = await connect('a')
  await until('the end of the first', () => first.answer.destroyed)
  assert.equal(hub.size, 1)
  assert.equal(counts.get('streamReplaced'), 1)
  hub.podGone('a')
  await until('the end', () => hub.size === 0 && second.answer.destroyed)
})

test('more than may be there, or come within a second, are turned away', async () => {
  await start({ connectionsMax: 2 })
  for (const name of ['a', 'b']) assert.equal((await connect(name)).answer.statusCode, 200)
  assert.equal((await connect('c')).answer.statusCode, 503)
  server.close()
  const startMs = performance.now()
  await start({ acceptsPerSecond: 3 })
  const statuses = await Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map(async (name) => (await connect(name)).answer.statusCode))
  const taken = statuses.filter((status) => status === 200).length
  const seconds = (performance.now() - startMs) / 1_000
  assert.ok(taken >= 3 && taken <= 3 + 3 * seconds, `${taken} were taken in ${seconds} s`)
})

test('a config map says what its config is, or that it has none', () => {
  const text = JSON.stringify({ namespace: 'shop', budget: 'support', version: 5, hash: 'abc', schemaVersion: 1, more: true })
  assert.deepEqual(streamConfigOf(text), { budget: 'shop/support', version: 5, hash: 'abc', schemaVersion: 1, text })
  for (const bad of ['', '{', '[]', '{"version":1}']) assert.equal(streamConfigOf(bad), null)
})

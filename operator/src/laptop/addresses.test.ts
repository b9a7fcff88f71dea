import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { formatAddress } from '@farebox/crds/address.ts'
import { freeAddresses, parseAddress, whyTaken, whyUnreachable } from './addresses.ts'

test('an address is a host and a port that others can be told', () => {
  assert.deepEqual(parseAddress('127.0.0.1:4180'), { host: '127.0.0.1', port: 4180 })
  assert.deepEqual(parseAddress('localhost:65535'), { host: 'localhost', port: 65_535 })
  assert.deepEqual(parseAddress('[::1]:4180'), { host: '::1', port: 4180 })
  assert.equal(formatAddress({ host: '::1', port: 4180 }), '[::1]:4180')
  for (const text of [
    '::1:4180',
    '[::1]',
    '[::1',
    '[1:2]:4180',
    '[127.0.0.1]:4180',
    '127.0.0.1',
    ':4180',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    'a b:1',
    'http://a:1',
    '127.0.0.1:4180/',
  ])
    assert.equal(parseAddress(text), null, text)
})

test('free addresses are free and differ; a taken one says so', async () => {
  const addresses = await freeAddresses(3)
  assert.equal(new Set(addresses.map(formatAddress)).size, 3)
  for (const address of addresses) assert.equal(await whyTaken(address), null)
  const [address] = addresses
  assert.ok(address)
  const holder = createServer().listen(address.port, address.host)
  await once(holder, 'listening')
  assert.equal(await whyTaken(address), `${formatAddress(address)} is in use`)
  holder.close()
})

test('a URL is reachable where somebody listens, whatever its path', async () => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  const bound = holder.address()
  assert.ok(bound !== null && typeof bound === 'object')
  const url = `http://127.0.0.1:${bound.port}/openai/v1`
  assert.equal(await whyUnreachable(url), null)
  holder.close()
  await once(holder, 'close')
  assert.equal(await whyUnreachable(url), 'ECONNREFUSED')
})

test('an address of another machine is told as such', async () => {
  assert.equal(await whyTaken({ host: '192.0.2.1', port: 4180 }), '192.0.2.1 is no address of this machine')
})

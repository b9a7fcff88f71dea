import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRebound } from './app-api.ts'

function rebound(host: string | undefined, localAddress: string): boolean {
  return isRebound({ headers: { host }, socket: { localAddress } })
}

test('the app API on the loopback address is for what calls it by an address, localhost or a plain name', () => {
  for (const host of [
    '127.0.0.1:4180',
    '127.0.0.1',
    'localhost:4180',
    'app.localhost',
    '[::1]:4180',
    '[::ffff:127.0.0.1]',
    'farebox:4180',
    'host.docker.internal:4180',
    undefined,
  ])
    assert.equal(rebound(host, '127.0.0.1'), false, host)
  for (const localAddress of ['127.0.0.1', '127.3.2.1', '::1', '::ffff:127.0.0.1'])
    for (const host of [
      'evil.example:4180',
      'EVIL.example',
      'evil.example.',
      '127.0.0.1.evil.example',
      'localhost.evil.example:80',
      'internal.example',
    ])
      assert.equal(rebound(host, localAddress), true, `${host} at ${localAddress}`)
})

test('behind another address a domain may well lead to it', () => {
  assert.equal(rebound('farebox.shop.svc.cluster.local:4180', '10.1.2.3'), false)
})

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STORE_ADDRESSES } from '../../test/support/store-addresses.ts'
import { runtimeSecret } from './core/runtime-secret.ts'
import { readSettings } from './settings.ts'

const LEAST = {
  POD_NAME: 'farebox-operator-x',
  POD_NAMESPACE: 'farebox',
  POD_IP: '10.0.0.7',
  SERVICE_ACCOUNT: 'farebox-operator',
  FAREBOX_SIDECAR_IMAGE: 'farebox/sidecar:0.1.0',
  FAREBOX_DELIVERY_URL: 'https://farebox-operator.farebox.svc:9444',
  FAREBOX_WEBHOOK_NAME: 'farebox',
  FAREBOX_TLS_NAMES: 'farebox-operator.farebox.svc,farebox-operator',
}

test('what a chart must give suffices', () => {
  const settings = readSettings(LEAST)
  assert.deepEqual(settings.listen, {
    webhook: { host: '', port: 10_250 },
    delivery: { host: '', port: 9_444 },
    admin: { host: '', port: 8_080 },
  })
  assert.deepEqual(settings.tls, {
    secret: 'farebox-tls',
    mode: 'Own',
    names: ['farebox-operator.farebox.svc', 'farebox-operator'],
  })
  assert.deepEqual(settings.store, { address: null, mode: 'Own', secret: 'farebox-store', caFile: null, isEphemeral: false })
  assert.equal(readSettings({ ...LEAST, FAREBOX_STORE_SECRET: 'redis' }).store.mode, 'Given')
  assert.equal(readSettings({ ...LEAST, FAREBOX_STORE_MODE: 'Given' }).store.mode, 'Given', 'whatever its Secret is called')
  assert.equal(settings.sidecar.resources.requests.memory, '96Mi')
  assert.equal(settings.sidecar.ledgerDays, null)
  assert.deepEqual(readSettings({ ...LEAST, FAREBOX_STORE_ADDRESS: '', FAREBOX_PULL_SECRETS: '' }), settings, 'nothing said is nothing')
})

test('addresses are of IPv4, of IPv6 in brackets, by name, or all there are', () => {
  const read = (text: string): unknown => readSettings({ ...LEAST, FAREBOX_ADMIN_LISTEN: text }).listen.admin
  assert.deepEqual(read(':8080'), { host: '', port: 8_080 })
  assert.deepEqual(read('127.0.0.1:1'), { host: '127.0.0.1', port: 1 })
  assert.deepEqual(read('localhost:80'), { host: 'localhost', port: 80 })
  assert.deepEqual(read('[::1]:8080'), { host: '::1', port: 8_080 })
  for (const wrong of ['8080', ':', '::1:8080', '[]:8080', '[::1]', '[::1:8080', 'a b:80', '[host]:80'])
    assert.throws(() => read(wrong), /FAREBOX_ADMIN_LISTEN: must be HOST:PORT/, wrong)
})

test('the store is one server, by an address that secrets of namespaces can be made from', () => {
  const read = (address: string): string | null => readSettings({ ...LEAST, FAREBOX_STORE_ADDRESS: address }).store.address
  for (const { address, isTaken } of STORE_ADDRESSES) {
    if (!isTaken) assert.throws(() => read(address), /FAREBOX_STORE_ADDRESS: must be redis:\/\/HOST:PORT/, address)
    else assert.doesNotThrow(() => runtimeSecret(Buffer.alloc(32), 'shop', read(address) ?? ''), address)
  }
})

test('the ledger is kept for good, or for some months', () => {
  assert.equal(readSettings({ ...LEAST, FAREBOX_SIDECAR_LEDGER_DAYS: '100' }).sidecar.ledgerDays, 100)
  assert.throws(
    () => readSettings({ ...LEAST, FAREBOX_SIDECAR_LEDGER_DAYS: '69' }),
    /FAREBOX_SIDECAR_LEDGER_DAYS: must be at least 70 days/,
  )
})

test('each variable at fault is named, with what it must be', () => {
  const wrong = {
    ...LEAST,
    POD_NAMESPACE: 'Not A Name',
    FAREBOX_DELIVERY_URL: 'http://plain:9444',
    FAREBOX_STORE_ADDRESS: 'redis://user:secret@host:6379',
    FAREBOX_SIDECAR_RESOURCES: '{"requests":{"memory":"2Mi"},"limits":{"memory":"1Mi"}}',
    FAREBOX_LEAVE: 'soon',
    FAREBOX_WEBHOOK_LISTEN: '10250',
    FAREBOX_TLS_MODE: 'Other',
  }
  assert.throws(
    () => readSettings(wrong),
    ({ message }: Error) => {
      for (const name of Object.keys(wrong)) {
        if (!Object.hasOwn(LEAST, name) || wrong[name as keyof typeof wrong] !== LEAST[name as keyof typeof LEAST])
          assert.match(message, new RegExp(`${name}: `))
      }
      assert.doesNotMatch(message, /secret@/, 'a password is not told')
      return true
    },
  )
  assert.throws(() => readSettings({}), /POD_NAME: .*FAREBOX_TLS_NAMES: /)
  assert.throws(() => readSettings({ ...LEAST, FAREBOX_TLS_NAMES: ' , ' }), /FAREBOX_TLS_NAMES: must name at least one host/)
  assert.throws(() => readSettings({ ...LEAST, FAREBOX_SIDECAR_RESOURCES: '{' }), /FAREBOX_SIDECAR_RESOURCES: must be JSON/)
})

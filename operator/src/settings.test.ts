import assert from 'node:assert/strict'
import { test } from 'node:test'
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
    webhook: { host: '0.0.0.0', port: 10_250 },
    delivery: { host: '0.0.0.0', port: 9_444 },
    admin: { host: '0.0.0.0', port: 8_080 },
  })
  assert.deepEqual(settings.tls, {
    secret: 'farebox-tls',
    mode: 'Own',
    names: ['farebox-operator.farebox.svc', 'farebox-operator'],
  })
  assert.deepEqual(settings.store, { address: null, secret: 'farebox-store', caFile: null, isEphemeral: false })
  assert.equal(settings.sidecar.resources.requests.memory, '96Mi')
  assert.deepEqual(readSettings({ ...LEAST, FAREBOX_STORE_ADDRESS: '', FAREBOX_PULL_SECRETS: '' }), settings, 'nothing said is nothing')
})

test('each variable at fault is named, with what it must be', () => {
  const wrong = {
    ...LEAST,
    POD_NAMESPACE: 'Not A Name',
    FAREBOX_DELIVERY_URL: 'http://plain:9444',
    FAREBOX_STORE_ADDRESS: 'redis://user:secret@host:6379',
    FAREBOX_SIDECAR_RESOURCES: '{"limits":{"memory":"1Mi"}}',
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

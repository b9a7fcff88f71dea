import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSettings } from './settings.ts'

const NEEDED = { FAREBOX_CONFIG: '/etc/farebox/config.json', FAREBOX_DATA: '/var/lib/farebox' }

test('what is not said has its default', () => {
  assert.deepEqual(readSettings(NEEDED), {
    configFile: '/etc/farebox/config.json',
    dataDir: '/var/lib/farebox',
    storeUrl: null,
    namespace: 'default',
    ledgerLifeMs: undefined,
    listen: { host: '127.0.0.1', port: 4180 },
    admin: { host: '127.0.0.1', port: 4181 },
    logLevel: 'info',
    logFile: null,
  })
})

test('the life of the ledger is told in days', () => {
  assert.equal(readSettings({ ...NEEDED, FAREBOX_LEDGER_DAYS: '400' }).ledgerLifeMs, 400 * 86_400_000)
})

test('each variable at fault is named, with what it must be', () => {
  const wrong = (more: Record<string, string>) => () => readSettings({ ...NEEDED, ...more })
  assert.throws(wrong({ FAREBOX_LEDGER_DAYS: '30' }), { message: 'FAREBOX_LEDGER_DAYS: must be at least 70 days' })
  assert.throws(wrong({ FAREBOX_LEDGER_DAYS: 'a year' }), { message: 'FAREBOX_LEDGER_DAYS: must be a number of days' })
  assert.throws(wrong({ FAREBOX_STORE: 'http://store', FAREBOX_NAMESPACE: 'a b' }), (error: Error) =>
    ['FAREBOX_STORE: must be redis://', 'FAREBOX_NAMESPACE: must be 1 to 128'].every((part) => error.message.includes(part)),
  )
  assert.throws(wrong({ FAREBOX_LISTEN: '4180' }), /FAREBOX_LISTEN: must be HOST:PORT/)
})

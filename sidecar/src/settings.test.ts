import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readSettings } from './settings.ts'

const NEEDED = { FAREBOX_CONFIG: '/etc/farebox/config.json', FAREBOX_DATA: '/var/lib/farebox' }

test('what is not said has its default', () => {
  assert.deepEqual(readSettings(NEEDED), {
    configFile: '/etc/farebox/config.json',
    dataDir: '/var/lib/farebox',
    storeUrl: null,
    storeFile: null,
    storeCaFile: null,
    identityKey: null,
    operator: null,
    credentialsDir: null,
    claimKeysDir: null,
    drainMs: 25_000,
    bodyRoomBytes: undefined,
    pod: null,
    namespace: 'default',
    ledgerLifeMs: undefined,
    listen: { host: '127.0.0.1', port: 4180 },
    admin: { host: '127.0.0.1', port: 4181 },
    logLevel: 'info',
    logFile: null,
  })
})

test('addresses are of IPv4, of IPv6 in brackets, by name, or all there are', () => {
  const read = (text: string): unknown => readSettings({ ...NEEDED, FAREBOX_ADMIN: text }).admin
  assert.deepEqual(read(':4181'), { host: '', port: 4181 })
  assert.deepEqual(read('localhost:80'), { host: 'localhost', port: 80 })
  assert.deepEqual(read('[::1]:4181'), { host: '::1', port: 4181 })
  for (const wrong of ['4181', '::1:4181', '[]:4181', '[::1]', '[host]:80'])
    assert.throws(() => read(wrong), /FAREBOX_ADMIN: must be HOST:PORT/, wrong)
})

test('whom to trust for the store is in a file', () => {
  assert.equal(readSettings({ ...NEEDED, FAREBOX_STORE_CA: '/store-ca.crt' }).storeCaFile, '/store-ca.crt')
})

test('keys that are held are in folders', () => {
  const read = readSettings({ ...NEEDED, FAREBOX_CREDENTIALS: '/keys', FAREBOX_CLAIM_KEYS: '/claim-keys' })
  assert.deepEqual([read.credentialsDir, read.claimKeysDir], ['/keys', '/claim-keys'])
  assert.throws(() => readSettings({ ...NEEDED, FAREBOX_CLAIM_KEYS: '' }), /FAREBOX_CLAIM_KEYS: /)
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
  for (const url of ['redis://ann:hush@hush@store', 'redis://ann:hush%@store'])
    assert.throws(
      wrong({ FAREBOX_STORE: url }),
      ({ message }: Error) => /^FAREBOX_STORE: must be redis:.* percent-encoded/.test(message) && !message.includes('hush'),
    )
  assert.throws(wrong({ FAREBOX_LISTEN: '4180' }), /FAREBOX_LISTEN: must be HOST:PORT/)
})

test('what is in files is read at the start, and what is wrong with one names the variable and not what it holds', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-settings-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  const key = Buffer.alloc(32, 7)
  const read = readSettings({
    ...NEEDED,
    FAREBOX_STORE_FILE: file('store', 'redis://app:secret@store:6379\n'),
    FAREBOX_IDENTITY_KEY_FILE: file('key', `${key.toString('base64')}\n`),
  })
  assert.equal(read.storeUrl, 'redis://app:secret@store:6379')
  assert.ok(read.identityKey?.equals(key))

  const wrong = (more: Record<string, string>) => () => readSettings({ ...NEEDED, ...more })
  assert.throws(wrong({ FAREBOX_STORE_FILE: join(folder, 'none') }), /^Error: FAREBOX_STORE_FILE: ENOENT/)
  assert.throws(
    wrong({ FAREBOX_STORE_FILE: file('bad', 'http://hush') }),
    (error: Error) => /^FAREBOX_STORE_FILE: .* must hold redis:/.test(error.message) && !error.message.includes('hush'),
  )
  assert.throws(wrong({ FAREBOX_IDENTITY_KEY_FILE: file('short', 'aGVsbG8=') }), /FAREBOX_IDENTITY_KEY_FILE: .* 32 bytes in base64/)
  assert.throws(wrong({ FAREBOX_STORE: 'redis://a:1', FAREBOX_STORE_FILE: join(folder, 'store') }), /FAREBOX_STORE_FILE: must not be there/)
})

test('an operator needs its authority and a token', () => {
  const operator = { ...NEEDED, FAREBOX_OPERATOR: 'https://farebox-operator.farebox.svc:9444' }
  assert.throws(() => readSettings(operator), /FAREBOX_OPERATOR_CA: must be there/)
  assert.throws(() => readSettings({ ...operator, FAREBOX_OPERATOR_CA: '/ca.crt' }), /FAREBOX_TOKEN: must be there/)
  assert.throws(() => readSettings({ ...operator, FAREBOX_OPERATOR: 'http://operator' }), /FAREBOX_OPERATOR: must be https:/)
  assert.deepEqual(readSettings({ ...operator, FAREBOX_OPERATOR_CA: '/ca.crt', FAREBOX_TOKEN: '/token' }).operator, {
    url: 'https://farebox-operator.farebox.svc:9444',
    caFile: '/ca.crt',
    tokenFile: '/token',
  })
  assert.throws(() => readSettings({ ...NEEDED, FAREBOX_DRAIN: '-1' }), /FAREBOX_DRAIN: must be 0 or more/)
  assert.throws(() => readSettings({ ...NEEDED, FAREBOX_BODY_ROOM: '1024' }), /FAREBOX_BODY_ROOM: must be at least 33554432/)
})

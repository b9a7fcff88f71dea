import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { namespaceOfUser, runtimeSecret, storeUser } from './runtime-secret.ts'

const ROOT = Buffer.alloc(32, 1)

test('each namespace has a user, a password and an identity key of its own, and whoever leads comes to the same', () => {
  const a = runtimeSecret(ROOT, 'a', 'redis://store:6379')
  const b = runtimeSecret(ROOT, 'b', 'redis://store:6379')
  assert.deepEqual(runtimeSecret(ROOT, 'a', 'redis://store:6379'), a)
  const [urlA, urlB] = [new URL(a.store), new URL(b.store)]
  assert.deepEqual([urlA.username, urlA.host, urlB.username], ['fb-a', 'store:6379', 'fb-b'])
  assert.notEqual(urlA.password, urlB.password)
  assert.notEqual(a.identityKey, b.identityKey)
  assert.equal(Buffer.from(a.identityKey, 'base64').length, 32)
  assert.notEqual(runtimeSecret(Buffer.alloc(32, 2), 'a', 'redis://store:6379').store, a.store)
  assert.match(a.store, /^redis:\/\/fb-a:[\w-]{43}@store:6379$/)
})

test('the authority of the store goes along where the store has TLS', () => {
  assert.equal(runtimeSecret(ROOT, 'a', 'rediss://store:6379', 'PEM').storeCa, 'PEM')
  assert.equal(runtimeSecret(ROOT, 'a', 'rediss://store:6379').storeCa, null)
  assert.equal(runtimeSecret(ROOT, 'a', 'redis://store:6379', 'PEM').storeCa, null)
})

test('the store is told the hash of the password, the keys of the namespace, and each command by its name', () => {
  const { name, rules } = storeUser(ROOT, 'a')
  const { password } = new URL(runtimeSecret(ROOT, 'a', 'redis://store:6379').store)
  assert.equal(name, 'fb-a')
  assert.ok(rules.includes(`#${createHash('sha256').update(password).digest('hex')}`))
  assert.deepEqual(
    rules.filter((rule) => rule.startsWith('~')),
    ['~fb:a:*'],
  )
  assert.ok(rules.indexOf('-@all') < rules.findIndex((rule) => rule.startsWith('+')))
  assert.deepEqual(
    rules.filter((rule) => rule.startsWith('+@')),
    [],
  )
  assert.ok(!rules.join(' ').includes(password))
})

test('a namespace is found by its user, and nobody else is taken for one', () => {
  assert.equal(namespaceOfUser('fb-support'), 'support')
  assert.equal(namespaceOfUser('default'), null)
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { AUTHORITY_LIFE_MS, createAuthority, issueLeaf, LEAF_LIFE_MS } from './authority.ts'
import { belongTogether } from './pem.ts'
import { trusts } from './trust.ts'

const NOW_MS = Date.UTC(2026, 10, 26, 6)
const NAMES = ['farebox-operator.farebox-system.svc', 'farebox-operator.farebox-system', '127.0.0.1', '::1']
const HOUR_MS = 3_600_000

test('an authority is P-256, lives two years, and began an hour ago', async () => {
  const authority = await createAuthority(NOW_MS)
  const certificate = new X509Certificate(authority.cert)
  assert.equal(certificate.ca, true)
  assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
  assert.equal(certificate.validFromDate.getTime(), NOW_MS - HOUR_MS)
  assert.equal(certificate.validToDate.getTime(), NOW_MS + AUTHORITY_LIFE_MS)
  assert.ok(belongTogether(authority))
  assert.ok(!belongTogether({ cert: authority.cert, key: (await createAuthority(NOW_MS)).key }))
})

test('T34: a leaf is valid for all of its names, for clocks that are ten minutes off, and for thirty days', async () => {
  const authority = await createAuthority(NOW_MS)
  const leaf = await issueLeaf(authority, NAMES, NOW_MS)
  const at = (ms: number) => trusts(authority.cert, leaf.cert, NAMES, ms).status
  assert.ok(belongTogether(leaf))
  assert.equal(at(NOW_MS - 600_000), 'ok')
  assert.equal(at(NOW_MS + 600_000), 'ok')
  assert.equal(at(NOW_MS - 2 * HOUR_MS), 'refused')
  assert.equal(at(NOW_MS + LEAF_LIFE_MS), 'refused')
  assert.deepEqual(trusts(authority.cert, leaf.cert, ['other.svc'], NOW_MS), {
    status: 'refused',
    reason: 'the certificate is not for other.svc',
  })
  assert.equal(trusts((await createAuthority(NOW_MS)).cert, leaf.cert, NAMES, NOW_MS).status, 'refused')
})

test('a leaf does not outlive its authority', async () => {
  const authority = await createAuthority(NOW_MS)
  const lateMs = NOW_MS + AUTHORITY_LIFE_MS - HOUR_MS
  const leaf = new X509Certificate((await issueLeaf(authority, NAMES, lateMs)).cert)
  assert.equal(leaf.validToDate.getTime(), NOW_MS + AUTHORITY_LIFE_MS)
})

test('a certificate needs a name', async () => {
  await assert.rejects(issueLeaf(await createAuthority(NOW_MS), [], NOW_MS), RangeError)
})

const openssl = spawnSync('openssl', ['version']).status === 0
test('OpenSSL accepts the chain, for its names, strictly', { skip: openssl ? false : 'there is no openssl' }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-x509-'))
  try {
    const [authority, other] = [await createAuthority(NOW_MS), await createAuthority(NOW_MS)]
    const leaf = await issueLeaf(authority, NAMES, NOW_MS)
    const file = (name: string, text: string) => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    const leafFile = file('leaf.pem', leaf.cert)
    const verify = (bundle: string, ...options: readonly string[]) =>
      spawnSync(
        'openssl',
        ['verify', '-x509_strict', '-attime', String(NOW_MS / 1000), '-purpose', 'sslserver', '-CAfile', bundle, ...options, leafFile],
        {
          encoding: 'utf8',
        },
      )
    const both = file('both.pem', other.cert + authority.cert)
    for (const bundle of [file('ca.pem', authority.cert), both]) {
      const { status, stdout, stderr } = verify(bundle, '-verify_hostname', NAMES[0] ?? '')
      assert.equal(status, 0, stdout + stderr)
    }
    assert.equal(verify(both, '-verify_ip', '127.0.0.1').status, 0)
    assert.notEqual(verify(both, '-verify_hostname', 'other.svc').status, 0)
    assert.notEqual(verify(file('other.pem', other.cert)).status, 0)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

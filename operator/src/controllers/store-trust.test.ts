import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readStoreCa } from './store-trust.ts'

test("a file that is absent or empty means the system's authorities; one that holds something else is no trust", (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-store-trust-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'ca.crt')
  assert.equal(readStoreCa(null), null)
  assert.equal(readStoreCa(path), null)
  writeFileSync(path, '\n')
  assert.equal(readStoreCa(path), null)
  writeFileSync(path, '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n')
  assert.equal(readStoreCa(path), '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----')
  writeFileSync(path, 'a password')
  assert.throws(() => readStoreCa(path), { message: `FAREBOX_STORE_CA: ${path} must hold certificates in PEM` })
})

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readStoreCa } from './store-files.ts'

test('the file that says whom to trust need not be there, and must hold certificates', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-store-files-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'store-ca.crt')
  assert.equal(readStoreCa(path), null)
  writeFileSync(path, '\n')
  assert.equal(readStoreCa(path), null)
  const pem = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----'
  writeFileSync(path, `# ours\n${pem}\n`)
  assert.equal(readStoreCa(path), `# ours\n${pem}`)
  writeFileSync(path, 'MIIB')
  assert.throws(() => readStoreCa(path), { message: `FAREBOX_STORE_CA: ${path} must hold certificates in PEM` })
  assert.throws(() => readStoreCa(folder), /^Error: FAREBOX_STORE_CA: EISDIR/)
})

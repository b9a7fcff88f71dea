import assert from 'node:assert/strict'
import { test } from 'node:test'
import { expiryWarning } from './expiry.ts'

const DAY_MS = 86_400_000

test('a certificate is warned of in the last week, or in the last quarter of a short life, and after its end', () => {
  const said = (lifeMs: number, leftMs: number): string =>
    expiryWarning({ beginsAtMs: 0, expiresAtMs: lifeMs }, lifeMs - leftMs) ?? 'nothing'
  assert.equal(said(90 * DAY_MS, 7 * DAY_MS + 1), 'nothing')
  assert.equal(
    said(90 * DAY_MS, 7 * DAY_MS),
    'the certificate runs out at 1970-04-01T00:00:00.000Z: renew it, or new pods have no sidecar then',
  )
  assert.equal(said(90 * DAY_MS, -1), 'the certificate ran out at 1970-04-01T00:00:00.000Z: renew it, new pods have no sidecar')
  assert.equal(said(DAY_MS, DAY_MS / 3), 'nothing', 'cert-manager renews it now')
  assert.match(said(DAY_MS, DAY_MS / 4), /runs out/)
})

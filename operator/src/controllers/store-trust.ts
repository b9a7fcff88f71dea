/** Whom to trust for the store that came with the chart, where its certificate is of a private authority: a mounted file. */
import { existsSync, readFileSync } from 'node:fs'

/** Certificates in PEM; null: there is no such file, or nothing in it, so that the system's authorities count. Throws when it holds something else. */
export function readStoreCa(path: string | null): string | null {
  if (path === null || !existsSync(path)) return null
  const pem = readFileSync(path, 'utf8').trim()
  if (pem === '') return null
  if (!/^-----BEGIN (?:TRUSTED )?CERTIFICATE-----$/m.test(pem)) throw new Error(`FAREBOX_STORE_CA: ${path} must hold certificates in PEM`)
  return pem
}

/** What files say of the store: where it is, and whom to trust for it. Read again when the store turns us away. */
import { existsSync } from 'node:fs'
import { readNamed } from '../named-file.ts'
import { isStoreUrl, STORE_URL_FORM } from './redis/store-url.ts'

const CERTIFICATE = /^-----BEGIN (?:TRUSTED )?CERTIFICATE-----$/m

/** The URL of a store in a file. Throws an `Error` that names the variable, and nothing of what the file says. */
export function readStoreFile(path: string): string {
  const url = readNamed('FAREBOX_STORE_FILE', path).trim()
  if (!isStoreUrl(url)) throw new Error(`FAREBOX_STORE_FILE: ${path} must hold ${STORE_URL_FORM}`)
  return url
}

/** Certificates in PEM; null: there is no such file, or nothing in it. Throws an `Error` that names the variable. */
export function readStoreCa(path: string): string | null {
  if (!existsSync(path)) return null
  const pem = readNamed('FAREBOX_STORE_CA', path).trim()
  if (pem === '') return null
  if (!CERTIFICATE.test(pem)) throw new Error(`FAREBOX_STORE_CA: ${path} must hold certificates in PEM`)
  return pem
}

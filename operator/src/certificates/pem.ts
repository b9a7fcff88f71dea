/** Certificates as text. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+?-----END CERTIFICATE-----/g

/** A certificate with its private key, both PEM. */
export interface KeyPair {
  readonly cert: string
  readonly key: string
}

/** The certificates of a bundle, each with a line break behind it. What cannot be read is left out. */
export function certificatesIn(bundle: string): readonly string[] {
  return [...bundle.matchAll(CERTIFICATE)].map(([pem]) => `${pem}\n`).filter((pem) => readCertificate(pem) !== null)
}

/** Each once, in order. */
export function bundleOf(certificates: readonly string[]): string {
  return certificates.filter((pem, index) => certificates.findIndex((other) => isSame(other, pem)) === index).join('')
}

export function includes(bundle: string, certificate: string): boolean {
  return certificatesIn(bundle).some((pem) => isSame(pem, certificate))
}

/** Null: not a certificate. */
export function readCertificate(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem)
  } catch {
    return null
  }
}

/** Null: not a private key, or one that needs a password. */
export function readKey(pem: string): KeyObject | null {
  try {
    return createPrivateKey(pem)
  } catch {
    return null
  }
}

/** Whether the key is that of the certificate. */
export function belongTogether({ cert, key }: KeyPair): boolean {
  const certificate = readCertificate(cert)
  const privateKey = readKey(key)
  return certificate !== null && privateKey !== null && certificate.checkPrivateKey(privateKey)
}

function isSame(a: string, b: string): boolean {
  const fingerprint = readCertificate(a)?.fingerprint256
  return fingerprint !== undefined && fingerprint === readCertificate(b)?.fingerprint256
}

/**
 * Our own certificate authority: ECDSA P-256, two years; and what it signs for our listeners, thirty days. X.509 is written by
 * @peculiar/x509, which is loaded when it is first needed: by the leader alone.
 */
import { createPrivateKey, randomBytes, webcrypto } from 'node:crypto'
import { isIP } from 'node:net'
import { DAY_MS } from '@farebox/crds/duration.ts'
import type { KeyPair } from './pem.ts'

const HOUR_MS = 3_600_000
export const AUTHORITY_LIFE_MS = 730 * DAY_MS
export const LEAF_LIFE_MS = 30 * DAY_MS
/** Validity begins this long before: clocks of a cluster differ. */
export const BACKDATED_MS = HOUR_MS

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const SERIAL_BYTES = 16

export async function createAuthority(nowMs: number): Promise<KeyPair> {
  const x509 = await loadX509()
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const serialNumber = newSerial()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber,
    // Of its own: two authorities of one name are told apart by few verifiers.
    name: `CN=farebox-ca-${serialNumber.slice(0, 8)}`,
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + AUTHORITY_LIFE_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { cert: pemOf(certificate), key: await keyPem(keys.privateKey) }
}

/**
 * A certificate for servers of these DNS names and IP addresses; it ends with its authority at the latest.
 * @throws TypeError when the authority cannot be read, RangeError without names.
 */
export async function issueLeaf(authority: KeyPair, names: readonly string[], nowMs: number): Promise<KeyPair> {
  if (names.length === 0) throw new RangeError('a certificate needs a name')
  const x509 = await loadX509()
  const issuer = new x509.X509Certificate(authority.cert)
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    createPrivateKey(authority.key).export({ type: 'pkcs8', format: 'der' }),
    ALGORITHM,
    false,
    ['sign'],
  )
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: 'CN=farebox-operator', // a CN of a name may be too long, and nobody reads it
    issuer: issuer.subject,
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(Math.min(nowMs + LEAF_LIFE_MS, issuer.notAfter.getTime())),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }))),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  })
  return { cert: pemOf(certificate), key: await keyPem(keys.privateKey) }
}

async function loadX509() {
  await import('reflect-metadata') // must come first: its decorators need it, and it is not among its dependencies
  return import('@peculiar/x509')
}

/** Positive, and not the same twice. */
function newSerial(): string {
  const bytes = randomBytes(SERIAL_BYTES)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes.toString('hex')
}

function pemOf(certificate: { toString(format: 'pem'): string }): string {
  return `${certificate.toString('pem').trim()}\n`
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ type: 'pkcs8', format: 'pem' }).toString()
}

/**
 * The keys in a file of claim keys. A public key may be read by all, so what is one, in whatever form such keys are handed around, is taken as
 * one or not at all: as a secret it would let everybody sign.
 */
import { isUtf8 } from 'node:buffer'
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import type { JsonWebKey, KeyObject } from 'node:crypto'
import { CLAIM_KEY_BYTES_MIN } from '../core/tier-claim.ts'

/** By which algorithms a key may sign: never by what a token says alone, since a public key is no secret. */
export const ALGORITHMS: Readonly<Record<string, readonly string[]>> = {
  secret: ['HS256', 'HS384', 'HS512'],
  rsa: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ec: ['ES256', 'ES384', 'ES512'],
  ed25519: ['EdDSA', 'Ed25519'],
}

interface PublicKey {
  readonly kind: 'public'
  readonly key: KeyObject
  /** What the key itself says that it is called: RFC 7517 section 4.5. */
  readonly kid: string | null
}
export type ClaimKey = { readonly kind: 'secret'; readonly bytes: Buffer } | PublicKey

/** Without any that can be used: none. */
export function keysIn(file: Buffer): readonly ClaimKey[] {
  const publicKeys = publicKeysIn(file)
  if (publicKeys !== null) return publicKeys
  if (!isUtf8(file)) return secretOf(file)
  // Editors end a text with a line break that is no part of it.
  const text = file.toString('utf8').trim()
  // Tools print keys and certificates in many ways, all of several lines; secrets have more than one only as base64.
  return text.includes('\n') && !BASE64.test(text) ? [] : secretOf(Buffer.from(text, 'utf8'))
}

function secretOf(bytes: Buffer): readonly ClaimKey[] {
  return bytes.length < CLAIM_KEY_BYTES_MIN ? [] : [{ kind: 'secret', bytes }]
}

const BASE64 = /^[\w+/\s-]+={0,2}$/
const PEM_BEGIN = '-----BEGIN '
/** As tools print bytes. */
const HEX = /^(?:[\da-f]{2}[\s:]*)+$/i
/** Of SSH, of RFC 4716, of XML signatures and metadata, of a JWK in what is no JSON, and where a JWKS is to be had: in none of them is a key read. */
const OTHER_FORMS = /ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp|---- BEGIN |<\/[\w:]+>$|\bkty\b[\\"']*\s*:|^https?:\/\/\S+$/
/** Of a keystore of Java. */
const JKS_MAGIC = Buffer.from('feedfeed', 'hex')
/** Of a set, so many are looked at: a provider publishes a handful. */
const SET_MAX = 1_024

/** The public keys that can be used, with private ones for their public halves. Null: nothing in it looks like a key of a pair. */
function publicKeysIn(bytes: Buffer): readonly PublicKey[] | null {
  if (bytes.subarray(0, JKS_MAGIC.length).equals(JKS_MAGIC)) return []
  if (bytes[0] === DER_SEQUENCE) {
    const found = DER_READERS.map((read) => keyBy(() => read(bytes))).find((key) => key !== null)
    if (found !== undefined || isDer(bytes)) return usable(found ?? null)
  }
  const text = textOf(bytes)
  const json = jsonIn(text)
  // What was encoded once more than was meant.
  if (typeof json === 'string') return publicKeysIn(Buffer.from(json))
  if (json !== null) return ofJson(json)
  const begin = text.indexOf(PEM_BEGIN)
  if (begin !== -1) return usable(keyBy(() => createPublicKey(text.slice(begin))))
  if (OTHER_FORMS.test(text)) return []
  if (HEX.test(text)) {
    const decoded = Buffer.from(text.replaceAll(/[\s:]/g, ''), 'hex')
    if (decoded[0] === DER_SEQUENCE) return publicKeysIn(decoded)
  }
  // Of PEM without its first and last line, and of what a Secret has encoded once more.
  return BASE64.test(text) ? publicKeysIn(Buffer.from(text, 'base64')) : null
}

/** Without what is no text: in UTF-16, as some shells write, each letter of what matters here has a zero beside it, and a mark may come first. */
function textOf(bytes: Buffer): string {
  return bytes
    .toString('utf8')
    .replaceAll(/[\0\uFFFD]/g, '')
    .trim()
}

function jsonIn(text: string): object | string | null {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' || typeof json === 'string' ? json : null
  } catch {
    return null
  }
}

/** A JWK, or a set of them: RFC 7517. Of a set those that cannot be used are passed over, as its section 5 has it. */
function ofJson(json: object): readonly PublicKey[] {
  const jwks: readonly unknown[] = 'keys' in json && Array.isArray(json.keys) ? json.keys : [json]
  return jwks.slice(0, SET_MAX).flatMap((jwk) => {
    if (typeof jwk !== 'object' || jwk === null) return []
    const { kid, use } = jwk as { readonly kid?: unknown; readonly use?: unknown }
    if (use !== undefined && use !== 'sig') return []
    const key = keyBy(() => createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' }))
    return usable(key, typeof kid === 'string' ? kid : null)
  })
}

function usable(key: KeyObject | null, kid: string | null = null): readonly PublicKey[] {
  return key === null || ALGORITHMS[key.asymmetricKeyType ?? ''] === undefined ? [] : [{ kind: 'public', key, kid }]
}

/** Null: no key, or of a kind that Node does not know. */
function keyBy(read: () => KeyObject): KeyObject | null {
  try {
    return read()
  } catch {
    return null
  }
}

/** How public keys, certificates and private keys begin in DER, and much else that is signed. */
const DER_SEQUENCE = 0x30
const DER_READERS: readonly ((key: Buffer) => KeyObject)[] = [
  (key) => createPublicKey({ key, format: 'der', type: 'spki' }),
  (key) => createPublicKey({ key, format: 'der', type: 'pkcs1' }),
  (certificate) => new X509Certificate(certificate).publicKey,
  (key) => createPublicKey(createPrivateKey({ key, format: 'der', type: 'pkcs8' })),
  (key) => createPublicKey(createPrivateKey({ key, format: 'der', type: 'sec1' })),
]
/** With what such a sequence begins: another one, a number, or what it is called. */
const DER_FIRST: readonly (number | undefined)[] = [DER_SEQUENCE, 0x02, 0x06]
/** It names what it is about by an object identifier somewhere, whose tag is in no text. */
const DER_NAME = 0x06

/** Whether this is one sequence from end to end, as of secrets that are drawn at random one in millions is. */
function isDer(bytes: Buffer): boolean {
  const [, said = 0] = bytes
  const lengthBytes = said < 0x80 ? 0 : said - 0x80
  const begin = 2 + lengthBytes
  if (said === 0x80 || lengthBytes > 3 || bytes.length <= begin) return false
  const length = lengthBytes === 0 ? said : bytes.readUIntBE(2, lengthBytes)
  return begin + length === bytes.length && DER_FIRST.includes(bytes[begin]) && bytes.includes(DER_NAME)
}

import assert from 'node:assert/strict'
import { generateKeyPairSync, hash, randomBytes, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { test } from 'node:test'
import { selfSigned } from './certificates.testing.ts'
import { keysIn } from './claim-keys.ts'

const PAIRS = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ec: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ed25519: generateKeyPairSync('ed25519'),
}
const AGREES_ONLY = generateKeyPairSync('x25519').publicKey
const pem = (key: KeyObject): string => key.export({ format: 'pem', type: 'spki' }).toString()
const der = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' })
const jwk = (key: KeyObject, more: object = {}): object => ({ ...key.export({ format: 'jwk' }), ...more })
const base64 = (bytes: Buffer | string): string => Buffer.from(bytes).toString('base64')
const wrapped = (text: string): string => text.replaceAll(/.{64}/g, '$&\n')

/** `rsa a` for each public key, `secret` for a secret. */
function told(file: Buffer | string | object): readonly string[] {
  const bytes = Buffer.isBuffer(file) ? file : Buffer.from(typeof file === 'string' ? file : JSON.stringify(file))
  return keysIn(bytes).map((key) => (key.kind === 'secret' ? 'secret' : `${key.key.asymmetricKeyType} ${key.kid ?? '-'}`))
}

test('a public key is one in each form that Node reads, whatever stands before it or was encoded around it', () => {
  for (const [type, { publicKey, privateKey }] of Object.entries(PAIRS)) {
    const text = pem(publicKey)
    const forms: Readonly<Record<string, Buffer | string | object>> = {
      PEM: text,
      'PEM of Windows': text.replaceAll('\n', '\r\n'),
      'with a mark of the byte order': `\uFEFF${text}`,
      'in UTF-16': Buffer.from(`\uFEFF${text}`, 'utf16le'),
      'behind a comment': `# key of the gateway\n${text}`,
      'behind words in no UTF-8': Buffer.from(`Schlüssel des Übergangs\n${text}`, 'latin1'),
      'behind attributes': `Bag Attributes\n    friendlyName: gateway\nKey Attributes: <No Attributes>\n${text}`,
      DER: der(publicKey),
      JWK: jwk(publicKey),
      'JWK in lines': JSON.stringify(jwk(publicKey), null, 2),
      'without the lines of PEM': base64(der(publicKey)),
      'the same in lines': `${wrapped(base64(der(publicKey)))}\n`,
      'PEM in base64': base64(text),
      'JWK in base64': base64(JSON.stringify(jwk(publicKey))),
      'in a text of JSON': JSON.stringify(text),
      'JWK in a text of JSON': JSON.stringify(JSON.stringify(jwk(publicKey))),
      'DER in digits': der(publicKey).toString('hex'),
      'the same with colons': der(publicKey)
        .toString('hex')
        .replaceAll(/..(?!$)/g, '$&:'),
      'a private key': privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
      'a private key in DER': privateKey.export({ format: 'der', type: 'pkcs8' }),
      'a private JWK': jwk(privateKey),
    }
    for (const [form, file] of Object.entries(forms)) assert.deepEqual(told(file), [`${type} -`], `${type}, ${form}`)
  }
  assert.deepEqual(told(PAIRS.rsa.publicKey.export({ format: 'der', type: 'pkcs1' })), ['rsa -'])
  assert.deepEqual(told(PAIRS.ec.privateKey.export({ format: 'der', type: 'sec1' })), ['ec -'])
})

test('a JWK is called what it says; of a set those for signatures are taken', () => {
  const { rsa, ec, ed25519 } = PAIRS
  assert.deepEqual(told(jwk(rsa.publicKey, { kid: 'a', use: 'sig', alg: 'RS256' })), ['rsa a'])
  const keys = [
    jwk(rsa.publicKey, { kid: 'a', use: 'sig' }),
    jwk(rsa.publicKey, { kid: 'b', use: 'enc' }),
    { kty: 'OCT', kid: 'c' },
    'd',
    jwk(ec.publicKey, { kid: 'e' }),
    jwk(ed25519.publicKey, { kid: 7 }),
  ]
  assert.deepEqual(told({ keys }), ['rsa a', 'ec e', 'ed25519 -'])
})

test('what may be read by all and is no key here is no secret either', () => {
  const { publicKey } = PAIRS.rsa
  const blob = base64(Buffer.concat([Buffer.from([0, 0, 0, 7]), Buffer.from('ssh-rsa'), randomBytes(128)]))
  const cases: Readonly<Record<string, Buffer | string | object>> = {
    'PEM that is cut off': pem(publicKey).slice(0, 200),
    'PEM with its line breaks written out': pem(publicKey).replaceAll('\n', '\\n'),
    'a key that signs nothing': pem(AGREES_ONLY),
    'the same in DER': der(AGREES_ONLY),
    'the same as a JWK': jwk(AGREES_ONLY),
    'a JWK of a secret': { kty: 'oct', k: base64(randomBytes(32)) },
    'a JWK that encrypts': jwk(publicKey, { use: 'enc' }),
    'an empty set': { keys: [] },
    'a list of JWKs': [jwk(publicKey)],
    'certificates by name': { a: pem(publicKey) },
    'a JWK that is no JSON': JSON.stringify(jwk(publicKey)).replace('}', ',}'),
    'a JWK in YAML': Object.entries(jwk(publicKey))
      .map(([name, value]) => `${name}: ${value}\n`)
      .join(''),
    'the same in one line': `{kty: RSA, n: ${'x'.repeat(40)}, e: AQAB}`,
    'a JWK whose quotes are escaped': `{\\"kty\\":\\"RSA\\",\\"e\\":\\"AQAB\\"}`,
    'where a JWKS is': 'https://example.eu.auth0.com/.well-known/jwks.json',
    'a keystore of Java': Buffer.concat([Buffer.from('feedfeed00000002', 'hex'), randomBytes(64)]),
    'a key of SSH': `ssh-rsa ${blob} ada@example.com`,
    'the same without its name': blob,
    'one of RFC 4716': `---- BEGIN SSH2 PUBLIC KEY ----\n${blob}\n---- END SSH2 PUBLIC KEY ----`,
    'a key of XML signatures': '<RSAKeyValue><Modulus>xA7SEU+e0yQH5rm9kbCDN9o3aPIo7HbP</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>',
    'what a tool prints': 'Public-Key: (2048 bit)\nModulus:\n    00:b1:5c:0f:be:49:7e:d6:f6:35:e8:c6:4f:28:0e\nExponent: 65537 (0x10001)\n',
    'another sequence of DER': Buffer.concat([Buffer.from([0x30, 0x81, 0x83, 0x06, 0x81, 0x80]), randomBytes(128)]),
    'less than 16 bytes': 'too short',
    nothing: '',
  }
  for (const [what, file] of Object.entries(cases)) assert.deepEqual(told(file), [], what)
})

test('a certificate is its public key, in DER too, and whatever a tool writes before it', () => {
  const { cert, key } = selfSigned(['gateway'], { byAddress: false })
  for (const file of [cert, `Certificate:\n    Data:\n        Version: 3 (0x2)\n${cert}`, new X509Certificate(cert).raw, `${key}${cert}`])
    assert.deepEqual(told(file), ['ec -'])
})

test('secrets are what they were: a line, base64 in lines, bytes that are no text', () => {
  const bytes = (file: Buffer | string): string | undefined => {
    const [key] = keysIn(Buffer.from(file as string))
    return key?.kind === 'secret' ? key.bytes.toString('latin1') : undefined
  }
  for (const secret of [
    'a secret that two sides share, and long enough',
    '{a secret} that [looks] like "something" <else>',
    '1234567890123456',
    '"a text of JSON is one, with its quotes"',
    base64(Buffer.alloc(32, 7)),
    wrapped(base64(Buffer.alloc(64, 7))),
    Buffer.alloc(32, 7).toString('hex'),
    '0'.repeat(50),
  ])
    for (const around of ['', '\n', '\r\n']) assert.equal(bytes(`${secret}${around}`), secret)
  const raw = Buffer.from('ff00fe80c0a9318f7700e2821ac3d5b6ff00fe80c0a9318f7700e2821ac3d50a', 'hex')
  assert.equal(bytes(raw), raw.toString('latin1'))
})

test('secrets that are drawn at random are taken for nothing else', () => {
  for (let index = 0; index < 10_000; index++) {
    const drawn = hash('sha512', `secret ${index}`, 'buffer').subarray(0, 16 + (index % 48))
    for (const file of [drawn, drawn.toString('base64'), drawn.toString('base64url'), drawn.toString('hex')])
      assert.deepEqual(told(file), ['secret'], drawn.toString('hex'))
  }
})

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignJWT } from 'jose'
import type { PlainClaims } from '../core/tier-claim.ts'
import { Claims } from './claims.ts'
import type { KeptClaims } from './claims.ts'

const folders: string[] = []
after(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })))

const LOG = { info: () => undefined, warn: () => undefined, error: () => undefined }
const SECRET = 'a secret that two sides share, and long enough'
const signedBy = (format: 'JWT' | 'HMAC') => ({
  tiers: { default: 'free', allowed: ['free', 'pro'], claim: { header: 'x-farebox-tier', token: { format } } },
})
const [JWT, HMAC] = [signedBy('JWT'), signedBy('HMAC')]
const PLAIN = { tiers: { ...JWT.tiers, claim: { header: 'x-farebox-tier' } } }
const SOON = Math.floor(Date.now() / 1000) + 600

function folderOf(keys: Readonly<Record<string, string | Buffer>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-claims-'))
  folders.push(folder)
  for (const [name, text] of Object.entries(keys)) writeFileSync(join(folder, name), text)
  return folder
}
function token(claims: Record<string, unknown>, header: { alg: string; kid?: string }, key: KeyObject | Uint8Array): Promise<string> {
  return new SignJWT(claims).setProtectedHeader(header).sign(key)
}
async function verdict(claims: Claims, text: string, config = JWT): Promise<string> {
  const read = await claims.read(config, text)
  return read === null ? 'plain' : read.status === 'ok' ? `${read.claim.tier}/${read.claim.user}` : read.why
}
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

test('a plain claim is not read as a token', async () => {
  assert.equal(await new Claims(null, LOG).read(PLAIN, 'pro'), null)
})

test('a token by a shared secret, and by a key pair of each kind', async () => {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  }
  const pem = (pair: { readonly publicKey: KeyObject }): string => pair.publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const claims = new Claims(folderOf({ shared: SECRET, RS256: pem(pairs.RS256), ES256: pem(pairs.ES256), EdDSA: pem(pairs.EdDSA) }), LOG)
  assert.equal(
    await verdict(claims, await token({ tier: 'pro', sub: 'ada', exp: SOON }, { alg: 'HS256', kid: 'shared' }, bytes(SECRET))),
    'pro/ada',
  )
  for (const [alg, { privateKey }] of Object.entries(pairs)) {
    assert.equal(await verdict(claims, await token({ tier: 'pro', exp: SOON }, { alg, kid: alg }, privateKey)), 'pro/null')
    assert.equal(await verdict(claims, await token({ tier: 'pro', exp: SOON }, { alg }, privateKey)), 'pro/null', 'every key is tried')
  }
  // The classic confusion: a public key is known to all, and must not serve as a secret.
  const forged = await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'RS256' }, bytes(pem(pairs.RS256)))
  assert.match(await verdict(claims, forged), /an algorithm that its key is not for/)
})

test('a public key in any form lets nobody sign who merely has it, beside the right one of the same pair too', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const files: Readonly<Record<string, string | Buffer>> = {
    'jwks.json': JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'a', use: 'sig' }] }, null, 2),
    'jwk.json': JSON.stringify(publicKey.export({ format: 'jwk' })),
    'with-comment.pem': `# key of the gateway\n${pem}`,
    'bag.pem': `Bag Attributes\n    friendlyName: gateway\n${pem}`,
    'key.der': publicKey.export({ type: 'spki', format: 'der' }),
    'bare.txt': publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
    'ssh.pub': `ssh-ed25519 ${Buffer.alloc(51, 7).toString('base64')} gateway`,
  }
  const claims = new Claims(folderOf({ 'gateway.pem': pem, ...files }), LOG)
  for (const [name, file] of Object.entries(files)) {
    const secret = typeof file === 'string' ? bytes(file.trim()) : file
    for (const header of [{ alg: 'HS256', kid: name }, { alg: 'HS256' }])
      assert.match(await verdict(claims, await token({ tier: 'pro', exp: SOON }, header, secret)), /not known here|not for/, name)
    const line = `v1;tier=pro;exp=${SOON};kid=${name}`
    const signature = createHmac('sha256', secret).update(line).digest('base64url')
    assert.match(await verdict(claims, `${line};sig=${signature}`, HMAC), /not known here/, name)
    const genuine = await token({ tier: 'pro', exp: SOON }, { alg: 'RS256', kid: name }, privateKey)
    assert.match(await verdict(claims, genuine), name === 'ssh.pub' ? /not known here/ : /^pro\/null$/, name)
  }
})

test('keys of a set are known by what they call themselves, and by their file', async () => {
  const [first, second] = [generateKeyPairSync('ec', { namedCurve: 'P-256' }), generateKeyPairSync('ec', { namedCurve: 'P-256' })]
  const keys = [
    { ...first.publicKey.export({ format: 'jwk' }), kid: 'first' },
    { ...second.publicKey.export({ format: 'jwk' }), kid: 'second' },
  ]
  const claims = new Claims(folderOf({ 'jwks.json': JSON.stringify({ keys }) }), LOG)
  const by = async (key: KeyObject, kid?: string): Promise<string> =>
    verdict(claims, await token({ tier: 'pro', exp: SOON }, { alg: 'ES256', ...(kid === undefined ? {} : { kid }) }, key))
  for (const kid of ['second', 'jwks.json', undefined]) assert.equal(await by(second.privateKey, kid), 'pro/null')
  assert.match(await by(second.privateKey, 'first'), /does not fit/)
  assert.match(await by(second.privateKey, 'third'), /not known here/)
})

test('a file that holds no key is named in the log, and keys of sets count among those that are used', () => {
  const errors: unknown[] = []
  const key = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
  const keys = Array.from({ length: 250 }, (_, index) => ({ ...key, kid: `k${index}` }))
  const log = { ...LOG, error: (fields: { readonly keys?: unknown; readonly key?: unknown }) => errors.push(fields.keys ?? fields.key) }
  const claims = new Claims(folderOf({ a: JSON.stringify({ keys }), b: JSON.stringify({ keys }), c: '{"keys":[]}', d: SECRET }), log)
  claims.stop()
  assert.deepEqual(errors, ['c', ['b', 'd']])
})

test('what is no key in the folder is no matter for the keys', async () => {
  const folder = folderOf({ shared: SECRET })
  mkdirSync(join(folder, 'a-folder'))
  symlinkSync(join(folder, 'gone'), join(folder, 'dangling')) // as for a moment while a Secret's mount is exchanged
  const claims = new Claims(folder, LOG)
  assert.equal(await verdict(claims, await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'shared' }, bytes(SECRET))), 'pro/null')
})

test('a secret may be any bytes; the line break at the end of a text is no part of it', async () => {
  const raw = Buffer.from('ff00fe80c0a9318f7700e2821ac3d5b6ff00fe80c0a9318f7700e2821ac3d50a', 'hex')
  const claims = new Claims(folderOf({ raw, typed: `${SECRET}\n` }), LOG)
  assert.equal(await verdict(claims, await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'raw' }, raw)), 'pro/null')
  assert.equal(await verdict(claims, await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'typed' }, bytes(SECRET))), 'pro/null')
})

test('a token that was checked in one format is none in another', async () => {
  const claims = new Claims(folderOf({ shared: SECRET }), LOG)
  const text = await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'shared' }, bytes(SECRET))
  assert.equal(await verdict(claims, text), 'pro/null')
  assert.equal((await claims.read(HMAC, text))?.status, 'rejected')
})

test('what is forged, stale or no token is refused', async () => {
  const claims = new Claims(folderOf({ shared: SECRET }), LOG)
  const hs256 = (said: Record<string, unknown>, kid = 'shared', secret = SECRET): Promise<string> =>
    token(said, { alg: 'HS256', kid }, bytes(secret))
  assert.match(await verdict(claims, await hs256({ tier: 'pro', exp: SOON }, 'shared', SECRET.toUpperCase())), /does not fit/)
  assert.match(await verdict(claims, await hs256({ tier: 'pro', exp: SOON }, 'other')), /not known here/)
  assert.match(await verdict(claims, await hs256({ tier: 'pro', exp: SOON - 1_200 })), /has expired/)
  assert.match(await verdict(claims, await hs256({ tier: 'pro' })), /does not say when it expires/)
  assert.match(await verdict(claims, await hs256({ tier: 'pro', exp: SOON, nbf: SOON })), /not valid yet/)
  assert.match(await verdict(claims, await hs256({ exp: SOON })), /names no tier/)
  assert.match(await verdict(claims, await hs256({ tier: 'pro', exp: SOON + 90 * 86_400 })), /longer than 31 days/)
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(`{"tier":"pro","exp":${SOON}}`).toString('base64url')}.`
  assert.match(await verdict(claims, unsigned), /algorithm|does not fit/)
  for (const text of ['', 'pro', 'a.b.c', '....']) assert.match(await verdict(claims, text), /is no JSON Web Token/)
  assert.match(await verdict(new Claims(null, LOG), await hs256({ tier: 'pro', exp: SOON }, 'shared')), /not known here/)
})

test('a token is written in one way alone', async () => {
  const claims = new Claims(folderOf({ shared: SECRET }), LOG)
  const text = await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'shared' }, bytes(SECRET))
  assert.equal(await verdict(claims, text), 'pro/null')
  for (const other of [`${text}=`, `${text} `, `${text}\t`, ` ${text}`, text.replace('.', ' .'), text.replace('.', '=.')])
    assert.match(await verdict(claims, other), /is no JSON Web Token/, JSON.stringify(other))
})

test('a token that was checked expires all the same', async () => {
  let nowMs = Date.now()
  const claims = new Claims(folderOf({ shared: SECRET }), LOG, { nowMs: () => nowMs })
  const text = await token({ tier: 'pro', exp: SOON }, { alg: 'HS256' }, bytes(SECRET))
  assert.equal(await verdict(claims, text), 'pro/null')
  nowMs = (SOON + 60) * 1000
  assert.match(await verdict(claims, text), /has expired/)
})

test('keys are exchanged under way: both are valid until the old one is gone', async () => {
  const folder = folderOf({ old: SECRET, short: 'too short' })
  const claims = new Claims(folder, LOG)
  claims.start()
  try {
    const other = `${SECRET}, another`
    const byOld = await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'old' }, bytes(SECRET))
    const byNew = await token({ tier: 'pro', exp: SOON }, { alg: 'HS256', kid: 'new' }, bytes(other))
    assert.deepEqual([await verdict(claims, byOld), /not known/.test(await verdict(claims, byNew))], ['pro/null', true])
    writeFileSync(join(folder, 'new'), other)
    while ((await verdict(claims, byNew)) !== 'pro/null') await sleep(50)
    assert.equal(await verdict(claims, byOld), 'pro/null')
    rmSync(join(folder, 'old'))
    while ((await verdict(claims, byOld)) === 'pro/null') await sleep(50)
    assert.equal(await verdict(claims, byNew), 'pro/null')
  } finally {
    claims.stop()
  }
})

test('of more keys than are used, those that are left out are named, and no others', async () => {
  const names = Array.from({ length: 258 }, (_, index) => `key-${String(index + 1).padStart(3, '0')}`)
  const folder = folderOf(Object.fromEntries(names.map((name) => [name, `${SECRET} ${name}`])))
  const errors: unknown[] = []
  const claims = new Claims(folder, { ...LOG, error: (fields: object, message: string) => errors.push([fields, message]) })
  const by = (name: string): Promise<string> => {
    const text = `v1;tier=pro;exp=${SOON};kid=${name}`
    const signature = createHmac('sha256', `${SECRET} ${name}`).update(text).digest('base64url')
    return verdict(claims, `${text};sig=${signature}`, HMAC)
  }
  assert.deepEqual([await by('key-001'), await by('key-256')], ['pro/null', 'pro/null'])
  assert.match(await by('key-257'), /not known here/)
  assert.deepEqual(errors, [
    [{ keys: ['key-257', 'key-258'] }, 'at most 256 claim keys are used, the first by name: these are not, or not whole'],
  ])
})

describe('what docs/tier-claims.md shows signs a claim, for one user or for any', () => {
  const page = readFileSync(new URL('../../../docs/tier-claims.md', import.meta.url), 'utf8')
  const shown = (language: string): string => page.match(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``))?.[1] ?? assert.fail(language)
  const claims = new Claims(folderOf({ '2026-11': SECRET }), LOG)

  test('in JavaScript', async () => {
    const program = `${shown('js')}\nexport { tierClaim }`
    const { tierClaim } = (await import(`data:text/javascript,${encodeURIComponent(program)}`)) as { tierClaim: (what: object) => string }
    const what = { tier: 'pro', seconds: 60, keyId: '2026-11', key: SECRET }
    assert.deepEqual(await verdict(claims, tierClaim({ ...what, user: 'ada@example.com' }), HMAC), 'pro/ada@example.com')
    for (const user of [undefined, null]) assert.deepEqual(await verdict(claims, tierClaim({ ...what, user }), HMAC), 'pro/null')
  })

  const isPythonThere = spawnSync('python3', ['--version']).status === 0
  test('in Python', { skip: isPythonThere ? false : 'python3 is missing' }, async () => {
    const printed = (user: string): string => {
      const call = `print(tier_claim(tier="pro", seconds=60, key_id="2026-11", key=${JSON.stringify(SECRET)}.encode()${user}))`
      const { stdout, stderr } = spawnSync('python3', ['-c', `${shown('python')}\n${call}`], { encoding: 'utf8' })
      return stdout === '' ? assert.fail(stderr) : stdout.trim()
    }
    assert.deepEqual(await verdict(claims, printed(', user="ada@example.com"'), HMAC), 'pro/ada@example.com')
    assert.deepEqual(await verdict(claims, printed(''), HMAC), 'pro/null')
  })
})

describe('a pod that is older than `tier.claim.token` has no keys, and', () => {
  const named = { namespace: 'shop', budget: 'support' }
  const [plain, jwt] = [
    { ...named, ...PLAIN },
    { ...named, ...JWT },
  ]
  const hmac = { ...named, ...HMAC }
  let kept: KeptClaims
  beforeEach(() => {
    let plainClaims: PlainClaims | null = null
    kept = {
      get plainClaims() {
        return plainClaims
      },
      keepPlainClaims(claims) {
        plainClaims = claims
      },
    }
  })

  test('takes plain claims as before, and signed ones for what they say of the tier, over a restart too', async () => {
    const first = new Claims(null, LOG, { kept })
    first.follow(plain)
    assert.equal(await first.read(plain, 'pro'), null)
    const byJwt = await token({ tier: 'pro', sub: 'ada', exp: SOON }, { alg: 'HS256', kid: 'unknown' }, bytes(SECRET))
    const byHmac = `v1;tier=pro;user=ada;exp=${SOON};kid=unknown;sig=AAAA`
    const taken = { status: 'ok', claim: { tier: 'pro', user: null } }
    for (const claims of [first, new Claims(null, LOG, { kept })]) {
      claims.follow(jwt)
      for (const text of ['pro', byJwt]) assert.deepEqual(await claims.read(jwt, text), taken)
      claims.follow(hmac)
      for (const text of ['pro', byHmac]) assert.deepEqual(await claims.read(hmac, text), taken)
    }
  })

  test('takes no tier that it did not before', async () => {
    const claims = new Claims(null, LOG, { kept })
    claims.follow(plain)
    const wider = { ...hmac, tiers: { ...hmac.tiers, allowed: [...hmac.tiers.allowed, 'gold'] } }
    claims.follow(wider)
    for (const text of ['gold', `v1;tier=gold;exp=${SOON};kid=a;sig=AAAA`, `v1;tier=pro;exp=1;kid=a;sig=AAAA`, ''])
      assert.deepEqual((await claims.read(wider, text))?.status, 'rejected', text)
    assert.deepEqual(await claims.read(hmac, `v1;tier=pro;exp=1;kid=a;sig=AAAA`), { status: 'rejected', why: 'the tier claim has expired' })
  })

  test('takes none where no plain claim was taken before', async () => {
    const claims = new Claims(null, LOG, { kept })
    const { claim: _, ...unclaimed } = plain.tiers
    for (const config of [plain, { ...plain, tiers: unclaimed }, hmac]) claims.follow(config)
    assert.equal((await claims.read(hmac, 'pro'))?.status, 'rejected')
  })

  test('one that has a folder for keys takes none without its signature, whatever is in it; nor does one that no operator looks after', async () => {
    for (const claims of [new Claims(folderOf({}), LOG, { kept }), new Claims('/nowhere', LOG, { kept }), new Claims(null, LOG)]) {
      for (const config of [plain, hmac]) claims.follow(config)
      assert.equal((await claims.read(hmac, 'pro'))?.status, 'rejected')
    }
  })
})

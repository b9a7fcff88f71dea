/**
 * Which tier a request claims. A plain claim is the tier's name; a signed one is a token, checked with the keys of a folder, which is
 * followed: while keys are being exchanged the old and the new one are both valid. Keys are in memory and nowhere else.
 */
import { hash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { LRUCache } from 'lru-cache'
import {
  checked,
  CLAIM_CLOCK_SKEW_S,
  CLAIM_KEY_BYTES_MIN,
  CLAIM_LENGTH_MAX,
  plainClaimsUnder,
  readSignedClaim,
  readUncheckedClaim,
} from '../core/tier-claim.ts'
import type { ClaimResult, PlainClaims, ReadClaim, TierClaim } from '../core/tier-claim.ts'
import type { Log } from '../telemetry/log.ts'
import { ALGORITHMS, keysIn } from './claim-keys.ts'
import type { ClaimKey } from './claim-keys.ts'

const LOOK_MS = 2_000
/** Tokens that were checked a moment ago: a conversation sends the same one with each of its turns, and public keys are slow. */
const CHECKED_KEPT = 10_000
/** RFC 7515 section 7.1. Decoders pass over white space and padding, so that one token could be written in endless ways. */
const COMPACT_TOKEN = /^[\w-]+\.[\w-]+\.[\w-]*$/
/** Files, the first by name, and keys in them. A token that names no key is tried with each of those. */
const KEYS_MAX = 256

/** What outlives a run of this sidecar, as its pod's mounts do. */
export interface KeptClaims {
  readonly plainClaims: PlainClaims | null
  /** Known in this run, even where it cannot be kept. */
  keepPlainClaims(claims: PlainClaims | null): void
}

export interface ClaimsOptions {
  readonly nowMs?: () => number
  /** Null: whoever starts this sidecar decides whether there are keys. Else its pod has none where it is older than `tier.claim.token`. */
  readonly kept?: KeptClaims | null
}

export class Claims {
  readonly #folder: string | null
  readonly #log: Pick<Log, 'info' | 'warn' | 'error'>
  readonly #nowMs: () => number
  #keys: readonly ClaimKey[] = []
  /** By the name of their file, and by what they call themselves. */
  #byId: ReadonlyMap<string, readonly ClaimKey[]> = new Map()
  #found: Found = { files: new Map(), leftOut: [] }
  /** By the SHA-256 of the token, which is up to 8 KiB long. */
  readonly #checked = new LRUCache<string, TierClaim>({ max: CHECKED_KEPT })
  readonly #kept: KeptClaims | null
  #isUnchecked = false
  #timer: NodeJS.Timeout | null = null

  /** `folder` null: there are no keys, and no signature is accepted. */
  constructor(folder: string | null, log: Pick<Log, 'info' | 'warn' | 'error'>, { nowMs = Date.now, kept = null }: ClaimsOptions = {}) {
    this.#folder = folder
    this.#log = log
    this.#nowMs = nowMs
    this.#kept = folder === null ? kept : null
    this.#look()
  }

  start(): void {
    if (this.#folder !== null) this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** This config is in force from now on. */
  follow(config: Pick<SidecarConfig, 'namespace' | 'budget' | 'tiers'>): void {
    if (this.#kept === null) return
    const before = this.#kept.plainClaims
    const plain = plainClaimsUnder(config, before)
    const isUnchecked = plain !== null && config.tiers.claim?.token !== undefined
    if (isUnchecked && !this.#isUnchecked)
      this.#log.warn(
        { tiers: plain.tiers },
        'claims are to be signed, and this pod is older than that: it has no keys, and takes plain claims until it is replaced',
      )
    this.#isUnchecked = isUnchecked
    if (isDeepStrictEqual(plain, before)) return
    this.#kept.keepPlainClaims(plain)
  }

  /** The claim of a request whose header says `text`; null when claims are plain, and `text` is all there is to it. */
  async read({ tiers }: Pick<SidecarConfig, 'tiers'>, text: string): Promise<ReadClaim | null> {
    const format = tiers.claim?.token?.format
    if (format === undefined) return null
    if (text.length > CLAIM_LENGTH_MAX) return { status: 'rejected', why: 'the tier claim is too long' }
    const nowMs = this.#nowMs()
    const plain = this.#kept?.plainClaims ?? null
    if (plain !== null)
      return readPlain(text, plain.tiers, format === 'HMAC' ? readUncheckedClaim(text, nowMs) : readUncheckedJwt(text, nowMs))
    if (format === 'HMAC') return readSignedClaim(text, this.#secrets(), nowMs)
    const checkedAs = hash('sha256', text, 'base64url')
    const known = this.#checked.get(checkedAs)
    if (known !== undefined) return checked(known, nowMs) // it may have expired since
    const result = await this.#readJwt(text, nowMs)
    if (result.status === 'ok') this.#checked.set(checkedAs, result.claim)
    return result
  }

  /** RFC 7519: `tier` is our claim, `sub` the user, `exp` is required. */
  async #readJwt(text: string, nowMs: number): Promise<ClaimResult> {
    if (!COMPACT_TOKEN.test(text)) return { status: 'rejected', why: 'the tier claim is no JSON Web Token' }
    let kid: string | undefined
    try {
      ;({ kid } = decodeProtectedHeader(text))
    } catch {
      return { status: 'rejected', why: 'the tier claim is no JSON Web Token' }
    }
    const keys = kid === undefined ? this.#keys : this.#byId.get(kid)
    if (keys === undefined) return { status: 'rejected', why: 'the tier claim names a key that is not known here' }
    let why = 'there is no key here to check the tier claim with'
    for (const key of keys) {
      try {
        const { payload } = await jwtVerify(text, key.kind === 'secret' ? key.bytes : key.key, {
          algorithms: [...(ALGORITHMS[key.kind === 'secret' ? 'secret' : (key.key.asymmetricKeyType ?? '')] ?? [])],
          requiredClaims: ['exp'],
          clockTolerance: CLAIM_CLOCK_SKEW_S,
          currentDate: new Date(nowMs),
        })
        return checked({ tier: payload['tier'], user: payload.sub ?? null, expiresAtS: payload.exp ?? null }, nowMs)
      } catch (error) {
        why = `the tier claim ${whyRefused(error)}`
        if (error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed) break // its signature was right
      }
    }
    return { status: 'rejected', why }
  }

  #secrets(): ReadonlyMap<string, Buffer> {
    const secrets = new Map<string, Buffer>()
    for (const [id, keys] of this.#byId) for (const key of keys) if (key.kind === 'secret') secrets.set(id, key.bytes)
    return secrets
  }

  #look(): void {
    if (this.#folder === null) return
    const found = readKeys(this.#folder)
    if (isDeepStrictEqual(found, this.#found)) return
    this.#found = found
    this.#checked.clear() // what a key that is gone has signed is worth nothing any more
    const keys: ClaimKey[] = []
    const byId = new Map<string, ClaimKey[]>()
    const leftOut = [...found.leftOut]
    for (const [name, bytes] of found.files) {
      const inFile = keysIn(bytes)
      if (inFile.length === 0) this.#log.error({ key: name }, NO_KEY)
      const used = inFile.slice(0, KEYS_MAX - keys.length)
      if (used.length < inFile.length) leftOut.push(name)
      for (const key of used) {
        keys.push(key)
        for (const id of idsOf(name, key)) byId.set(id, [...(byId.get(id) ?? []), key])
      }
    }
    this.#keys = keys
    this.#byId = byId
    if (leftOut.length > 0)
      this.#log.error({ keys: leftOut }, `at most ${KEYS_MAX} claim keys are used, the first by name: these are not, or not whole`)
    this.#log.info({ keys: [...byId.keys()] }, 'keys of tier claims')
  }
}

const NO_KEY =
  'a file of claim keys must be a public key (PEM, DER or JWK), a JWKS with one that is for signatures, or a secret: ' +
  `at least ${CLAIM_KEY_BYTES_MIN} bytes, no JSON, and as text a single line or base64; this one is not used`

function idsOf(file: string, key: ClaimKey): ReadonlySet<string> {
  return new Set(key.kind === 'public' && key.kid !== null ? [file, key.kid] : [file])
}

/**
 * A claim that nobody here can check is worth what a plain one is: a tier that anybody could name before, and no word on who the user is.
 * Those who sign already are understood, too.
 */
/** How claims of either format begin. */
const SIGNED = /^(?:v1;|eyJ)/

function readPlain(text: string, tiers: readonly string[], unchecked: ClaimResult): ReadClaim {
  if (SIGNED.test(text) && unchecked.status === 'rejected') return unchecked
  const named = tiers.includes(text) || unchecked.status === 'rejected' ? text : unchecked.claim.tier
  return tiers.includes(named)
    ? { status: 'ok', claim: { tier: named, user: null } }
    : { status: 'rejected', why: 'the tier claim must be signed, and this pod is too old to have the keys: it must be replaced' }
}

function readUncheckedJwt(text: string, nowMs: number): ClaimResult {
  try {
    const { tier, exp } = decodeJwt(text)
    return checked({ tier, user: null, expiresAtS: exp ?? null }, nowMs)
  } catch {
    return { status: 'rejected', why: 'the tier claim is no JSON Web Token' }
  }
}

function whyRefused(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'has expired'
  if (error instanceof errors.JWTClaimValidationFailed) return error.claim === 'exp' ? 'does not say when it expires' : 'is not valid yet'
  if (error instanceof errors.JOSEAlgNotAllowed) return 'is signed by an algorithm that its key is not for'
  return 'has a signature that does not fit'
}

interface Found {
  readonly files: ReadonlyMap<string, Buffer>
  /** Names beyond `KEYS_MAX`. */
  readonly leftOut: readonly string[]
}

/** The files of a folder by name, as a Secret is mounted: names that begin with a dot are the mount's own. */
function readKeys(folder: string): Found {
  const files = new Map<string, Buffer>()
  const names = namesIn(folder)
  for (const name of names.slice(0, KEYS_MAX)) {
    try {
      files.set(name, readFileSync(join(folder, name)))
    } catch {
      // A folder, or gone since it was listed, as while a mount is exchanged: no key, and no matter for the others.
    }
  }
  return { files, leftOut: names.slice(KEYS_MAX) }
}

function namesIn(folder: string): readonly string[] {
  try {
    const names = readdirSync(folder).filter((name) => !name.startsWith('.'))
    return names.toSorted()
  } catch {
    return [] // the folder is gone, or was never there: so are its keys
  }
}

/**
 * A tier claim that an app signs with a key that it shares with its sidecars: one line of text, which any language can make without a
 * library. `sig` is the HMAC-SHA-256 of all that stands before its `;`, in base64url, with or without its padding; values are percent-encoded.
 *
 *   v1;tier=pro;user=ada%40example.com;exp=1764150000;kid=2026-11;sig=3q2-7w...
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'

/** A longer claim is not looked at, in UTF-16 units. */
export const CLAIM_LENGTH_MAX = 8_192
/** A key that could be guessed signs nothing. In bytes. */
export const CLAIM_KEY_BYTES_MIN = 16
/** Clocks of the app and of this machine may differ by so much. */
export const CLAIM_CLOCK_SKEW_S = 30
/** Claims are made anew all the time: one that lasts longer than this is taken for a mistake. */
export const CLAIM_LIFE_S_MAX = 31 * 24 * 3_600

export interface TierClaim {
  readonly tier: string
  /** Whom the claim is for; null: whoever sends it. */
  readonly user: string | null
  /** Seconds since 1970. */
  readonly expiresAtS: number
}

export type ClaimResult =
  | { readonly status: 'ok'; readonly claim: TierClaim }
  /** `why` goes to the client and to the log: it quotes nothing of the claim. */
  | { readonly status: 'rejected'; readonly why: string }

/** What of a claim counts once it was read. */
export type ReadClaim =
  | { readonly status: 'ok'; readonly claim: Pick<TierClaim, 'tier' | 'user'> }
  | Extract<ClaimResult, { readonly status: 'rejected' }>

/** Reads a claim and checks its signature and its time. `keys`: by their id; several are valid while they are being exchanged. */
export function readSignedClaim(text: string, keys: ReadonlyMap<string, Buffer>, nowMs: number): ClaimResult {
  if (text.length > CLAIM_LENGTH_MAX) return rejected('is too long')
  const parts = partsOf(text)
  if (parts === null) return rejected(NOT_OF_THE_FORM)
  const { signed, signature, fields } = parts
  const key = keys.get(fields.get('kid') ?? '')
  if (key === undefined) return rejected('names a key that is not known here')
  // As text: a decoder passes over what is not of base64url, so that one signature could be written in endless ways.
  const expected = Buffer.from(createHmac('sha256', key).update(signed).digest('base64url'))
  const given = Buffer.from(signature.endsWith('=') ? signature.slice(0, -1) : signature)
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return rejected('has a signature that does not fit')
  return saidBy(fields, nowMs)
}

/** What a claim says, whoever made it: of use only where anybody may claim as much without one. */
export function readUncheckedClaim(text: string, nowMs: number): ClaimResult {
  const parts = partsOf(text)
  return parts === null ? rejected(NOT_OF_THE_FORM) : saidBy(parts.fields, nowMs)
}

/** The tiers that a claim could name without a signature, by the last config of a budget that took such claims. */
export interface PlainClaims {
  /** `namespace/name`. */
  readonly budget: string
  readonly tiers: readonly string[]
}

/**
 * What a sidecar without keys may go on to take as a plain claim once `config` is in force. A pod keeps the mounts that it started with,
 * so one from before claims had to be signed has no keys: it takes what it took until then, and never more. Null: no plain claim at all.
 */
export function plainClaimsUnder(
  config: Pick<SidecarConfig, 'namespace' | 'budget' | 'tiers'>,
  before: PlainClaims | null,
): PlainClaims | null {
  const { claim, allowed } = config.tiers
  if (claim === undefined) return null
  const budget = `${config.namespace}/${config.budget}`
  if (claim.token === undefined) return { budget, tiers: allowed }
  return before?.budget === budget ? { budget, tiers: before.tiers.filter((tier) => allowed.includes(tier)) } : null
}

/** What every claim must say, however it was signed. */
export function checked(
  { tier, user, expiresAtS }: { readonly tier: unknown; readonly user: unknown; readonly expiresAtS: number | null },
  nowMs: number,
): ClaimResult {
  if (typeof tier !== 'string' || tier === '') return rejected('names no tier')
  if (user !== null && (typeof user !== 'string' || user === '')) return rejected('names a user that is none')
  if (expiresAtS === null) return rejected('does not say when it expires')
  const nowS = Math.floor(nowMs / 1000)
  if (expiresAtS + CLAIM_CLOCK_SKEW_S <= nowS) return rejected('has expired')
  if (expiresAtS - nowS > CLAIM_LIFE_S_MAX) return rejected('lasts longer than 31 days')
  return { status: 'ok', claim: { tier, user, expiresAtS } }
}

const NOT_OF_THE_FORM = 'is not of the form v1;tier=...;exp=...;kid=...;sig=...'

interface Parts {
  readonly signed: string
  readonly signature: string
  readonly fields: ReadonlyMap<string, string>
}

function partsOf(text: string): Parts | null {
  const end = text.lastIndexOf(';sig=')
  if (!text.startsWith('v1;') || end < 0) return null
  const signed = text.slice(0, end)
  const fields = fieldsOf(signed)
  return fields === null ? null : { signed, signature: text.slice(end + ';sig='.length), fields }
}

function saidBy(fields: ReadonlyMap<string, string>, nowMs: number): ClaimResult {
  const expiry = fields.get('exp') ?? ''
  return checked(
    { tier: fields.get('tier'), user: fields.get('user') ?? null, expiresAtS: /^\d{1,12}$/.test(expiry) ? Number(expiry) : null },
    nowMs,
  )
}

function rejected(why: string): ClaimResult {
  return { status: 'rejected', why: `the tier claim ${why}` }
}

/** Null where a field is broken or comes twice. */
function fieldsOf(signed: string): ReadonlyMap<string, string> | null {
  const fields = new Map<string, string>()
  for (const field of signed.split(';').slice(1)) {
    const equals = field.indexOf('=')
    const name = field.slice(0, Math.max(0, equals))
    const value = equals < 0 ? null : decoded(field.slice(equals + 1))
    if (value === null || name === '' || fields.has(name)) return null
    fields.set(name, value)
  }
  return fields
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    return null // a percent sign that encodes nothing
  }
}

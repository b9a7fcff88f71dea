/**
 * What has to be done to the certificates now. Pure: the time and the live bundle are given.
 *
 * An authority is replaced in three steps, so that at no time a client meets a certificate that it does not trust: the new one is
 * published beside the old one; when that is known everywhere, it signs; when nobody serves what the old one signed, the old one goes.
 * Each step leaves its traces in the Secret, so that another leader goes on where one stopped.
 */
import { DAY_MS } from '@farebox/crds/duration.ts'
import { BACKDATED_MS, LEAF_LIFE_MS } from './authority.ts'
import { belongTogether, bundleOf, certificatesIn, includes, readCertificate } from './pem.ts'
import type { KeyPair } from './pem.ts'
import { trusts } from './trust.ts'

const HOUR_MS = 3_600_000
/** Of its life, what a leaf is used for: then there is a third left to notice that it was not renewed. */
const LEAF_USED_MS = (LEAF_LIFE_MS * 2) / 3
/** Before an authority ends: longer than a leaf lives and a rotation takes. */
export const ROTATE_BEFORE_MS = 90 * DAY_MS
/** After a new authority was published, until it signs: config maps reach pods within two minutes. */
export const PUBLISHED_MS = 10 * 60_000
/** After the new authority's first leaf, until the old one goes: replicas take a new leaf within seconds. */
export const SETTLED_MS = DAY_MS
/** When there is nothing to do: when to look again. */
const LOOK_AGAIN_MS = 12 * HOUR_MS

/** The Secret, decoded. `ca.crt` is what is to be trusted. */
export interface Holdings {
  readonly leaf: KeyPair
  readonly bundle: string
  readonly signer: KeyPair
  /** While it is published, and does not sign yet. */
  readonly next: KeyPair | null
}

export type Step =
  | { readonly step: 'keep'; readonly nextMs: number; readonly holdings: Holdings }
  /** `signer` signs a new leaf. */
  | { readonly step: 'issueLeaf'; readonly reason: string; readonly holdings: Holdings }
  /** A new authority is made, and published beside the others. */
  | { readonly step: 'publishNext'; readonly holdings: Holdings }
  /** `next` becomes `signer`, and signs a new leaf. */
  | { readonly step: 'switchSigner'; readonly holdings: Holdings & { readonly next: KeyPair } }
  /** Of the bundle, `signer` alone is left. */
  | { readonly step: 'dropOld'; readonly holdings: Holdings }
  /** All is made anew. `trusted`: authorities that stay in the bundle, since something may still be served that they signed. */
  | { readonly step: 'startOver'; readonly reason: string; readonly trusted: readonly string[] }

export interface PlanContext {
  readonly nowMs: number
  /** DNS names and IP addresses by which clients reach us. */
  readonly names: readonly string[]
  /** The live bundle of each webhook. */
  readonly published: readonly (string | null)[]
}

/** Authorities that `startOver` keeps at most: else somebody who deletes the Secret in a loop makes the bundle grow without end. */
const TRUSTED_MAX = 3

/** `data`: the Secret's, decoded; null: there is no Secret. */
export function plan(data: Readonly<Record<string, string>> | null, context: PlanContext): Step {
  const { nowMs, names, published } = context
  const read = data === null ? ({ status: 'unusable', reason: 'there is no Secret' } as const) : readHoldings(data, nowMs)
  if (read.status === 'unusable') {
    const known = [data?.['ca.crt'] ?? '', ...published].flatMap((bundle) => certificatesIn(bundle ?? ''))
    const trusted = certificatesIn(bundleOf(known)).filter((pem) => isAuthority(pem, nowMs))
    return { step: 'startOver', reason: read.reason, trusted: trusted.slice(-TRUSTED_MAX) }
  }
  const { holdings } = read
  const { leaf, bundle, signer, next } = holdings
  const trust = belongTogether(leaf)
    ? trusts(bundle, leaf.cert, names, nowMs)
    : { status: 'refused' as const, reason: 'its key is not its own' }
  // A clock that went back makes what was just issued seem to come from the future: that is no reason to issue it again.
  if (trust.status === 'refused' && bornMs(leaf.cert) <= nowMs + BACKDATED_MS) return { step: 'issueLeaf', reason: trust.reason, holdings }
  if (nowMs >= bornMs(leaf.cert) + leafUsedMs(leaf.cert)) return { step: 'issueLeaf', reason: 'it is due for renewal', holdings }
  const deadlines = [bornMs(leaf.cert) + leafUsedMs(leaf.cert), nowMs + LOOK_AGAIN_MS]
  if (next !== null) {
    const switchMs = bornMs(next.cert) + PUBLISHED_MS
    const isPublished = published.every((live) => live !== null && includes(live, next.cert))
    if (isPublished && nowMs >= switchMs) return { step: 'switchSigner', holdings: { ...holdings, next } }
    deadlines.push(isPublished ? switchMs : nowMs + PUBLISHED_MS)
  } else {
    const rotateMs = endMs(signer.cert) - ROTATE_BEFORE_MS
    if (nowMs >= rotateMs) return { step: 'publishNext', holdings }
    deadlines.push(rotateMs)
    if (certificatesIn(bundle).length > 1) {
      const isOwn = trusts(signer.cert, leaf.cert, names, nowMs).status === 'ok'
      const dropMs = Math.max(bornMs(signer.cert) + LEAF_LIFE_MS, bornMs(leaf.cert) + SETTLED_MS)
      if (isOwn && nowMs >= dropMs) return { step: 'dropOld', holdings }
      deadlines.push(dropMs)
    }
  }
  return { step: 'keep', nextMs: Math.max(nowMs, Math.min(...deadlines)), holdings }
}

type Read = { readonly status: 'read'; readonly holdings: Holdings } | { readonly status: 'unusable'; readonly reason: string }

function readHoldings(data: Readonly<Record<string, string>>, nowMs: number): Read {
  const pair = (name: string): KeyPair => ({ cert: data[`${name}.crt`] ?? '', key: data[`${name}.key`] ?? '' })
  const signer = pair('signer')
  const bundle = data['ca.crt'] ?? ''
  if (!belongTogether(signer)) return { status: 'unusable', reason: 'its authority cannot be read, or is without its key' }
  if (!isAuthority(signer.cert, nowMs)) return { status: 'unusable', reason: 'its authority has expired, or is none' }
  if (!includes(bundle, signer.cert)) return { status: 'unusable', reason: 'its bundle is without its authority' }
  const next = pair('next')
  const isUsable = belongTogether(next) && isAuthority(next.cert, nowMs) && includes(bundle, next.cert)
  return { status: 'read', holdings: { leaf: pair('tls'), bundle, signer, next: isUsable ? next : null } }
}

export function dataOf({ leaf, bundle, signer, next }: Holdings): Readonly<Record<string, string>> {
  return {
    'tls.crt': leaf.cert,
    'tls.key': leaf.key,
    'ca.crt': bundle,
    'signer.crt': signer.cert,
    'signer.key': signer.key,
    ...(next === null ? {} : { 'next.crt': next.cert, 'next.key': next.key }),
  }
}

function isAuthority(pem: string, nowMs: number): boolean {
  return readCertificate(pem)?.ca === true && endMs(pem) > nowMs
}

/** When it was made; never, for what is no certificate. */
function bornMs(pem: string): number {
  const from = readCertificate(pem)?.validFromDate.getTime()
  return from === undefined ? Number.NEGATIVE_INFINITY : from + BACKDATED_MS
}

function endMs(pem: string): number {
  return readCertificate(pem)?.validToDate.getTime() ?? Number.NEGATIVE_INFINITY
}

/** A leaf that ends early, with its authority, is renewed earlier. */
function leafUsedMs(pem: string): number {
  return Math.min(LEAF_USED_MS, ((endMs(pem) - bornMs(pem)) * 2) / 3)
}

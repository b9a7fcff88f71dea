/**
 * Who speaks to the delivery listener: tokens of the cluster, checked against its published keys without asking the API server,
 * so that neither an outage of it nor a storm of reconnects changes anything. A token lives for an hour; what ends it sooner is
 * that its pod is gone from the pod cache.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { TOKEN_AUDIENCE } from '@farebox/crds/cluster.ts'
import { createLocalJWKSet, errors, jwtVerify } from 'jose'
import type { JWTPayload } from 'jose'
import * as z from 'zod'
import { messageOf } from '../core/error-text.ts'
import type { KubeClient } from '../kube/kube.ts'
import type { DeliveryEvents } from './events.ts'

export interface PodIdentity {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly serviceAccount: string
}

export interface ServiceAccount {
  readonly namespace: string
  readonly name: string
}

export type Verdict<T> =
  | { readonly status: 'ok'; readonly identity: T }
  /** 401: no good token. 403: a good one, of somebody who has nothing here. */
  | { readonly status: 'refused'; readonly code: 401 | 403; readonly reason: string }
  /** There are no keys yet to check it by. */
  | { readonly status: 'unavailable'; readonly reason: string }

/** By `namespace/name`. */
interface Pods {
  get(key: string): { readonly metadata: { readonly uid?: string } } | undefined
}

export interface TokenVerifierOptions {
  readonly kube: Pick<KubeClient, 'text'>
  readonly pods: Pods
  readonly nowMs: () => number
  readonly events: DeliveryEvents
  /** A pod may show its token before the cache has heard of it: so long it is waited for. */
  readonly podWaitMs?: number
}

const JWKS_PATH = '/openid/v1/jwks'
const DISCOVERY_PATH = '/.well-known/openid-configuration'
const LEEWAY_S = 60
const POD_WAIT_MS = 2_000
const POD_LOOK_MS = 50
/** Older keys are asked for again, and good until the answer is there. */
const KEYS_AGE_MS = 10 * 60_000
/** A token may name any key: the API server is not asked more often for that. */
const ASK_EVERY_MS = 10_000
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'ES512', 'EdDSA']

const DiscoverySchema = z.object({ issuer: z.string().min(1) })
const KeysSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).min(1) })
const ClaimsSchema = z.object({
  'kubernetes.io': z.object({
    namespace: z.string().min(1),
    pod: z.object({ name: z.string().min(1), uid: z.string().min(1) }).optional(),
    serviceaccount: z.object({ name: z.string().min(1) }),
  }),
})
type Claims = z.infer<typeof ClaimsSchema>['kubernetes.io']

interface Keys {
  readonly issuer: string
  readonly find: ReturnType<typeof createLocalJWKSet>
  readonly readAtMs: number
}

/** Remembers the keys of the cluster, and asks for them anew when they may be others. Never rejects: what will not do is a verdict. */
export class TokenVerifier {
  readonly #options: TokenVerifierOptions
  #keys: Keys | null = null
  #askedAtMs = Number.NEGATIVE_INFINITY
  #asking: Promise<void> | null = null
  #trouble = 'they have not been asked for'

  constructor(options: TokenVerifierOptions) {
    this.#options = options
  }

  /** Reads the keys. What fails is counted, and tried again when a token comes; never rejects. */
  async start(): Promise<void> {
    await this.#ask()
  }

  /** The pod that this `authorization` header is of. */
  async pod(authorization: string | undefined): Promise<Verdict<PodIdentity>> {
    const checked = await this.#claims(authorization)
    if (checked.status !== 'ok') return checked
    const { namespace, pod, serviceaccount } = checked.identity
    if (pod === undefined) return refused(403, 'the token is bound to no pod')
    if (!(await this.#isThere(namespace, pod)))
      return refused(403, `there is no pod ${namespace}/${pod.name} with the uid of the token: it is gone`)
    return { status: 'ok', identity: { namespace, name: pod.name, uid: pod.uid, serviceAccount: serviceaccount.name } }
  }

  /** Whether it is of this service account. */
  async serviceAccount(authorization: string | undefined, wanted: ServiceAccount): Promise<Verdict<ServiceAccount>> {
    const checked = await this.#claims(authorization)
    if (checked.status !== 'ok') return checked
    const { namespace, serviceaccount } = checked.identity
    if (namespace === wanted.namespace && serviceaccount.name === wanted.name) return { status: 'ok', identity: wanted }
    return refused(403, `only replicas of the operator may do this, not ${namespace}/${serviceaccount.name}`)
  }

  async #claims(authorization: string | undefined): Promise<Verdict<Claims>> {
    const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i.exec(authorization ?? '')?.[1]
    if (token === undefined) return refused(401, authorization === undefined ? 'a bearer token is needed' : 'that is no bearer token')
    if (this.#keys === null) await this.#ask()
    else if (this.#options.nowMs() - this.#keys.readAtMs > KEYS_AGE_MS) void this.#ask()
    for (let attempt = 1; ; attempt++) {
      const keys = this.#keys
      if (keys === null) return { status: 'unavailable', reason: `the keys of the cluster are not known: ${this.#trouble}` }
      try {
        const { payload } = await jwtVerify(token, keys.find, {
          issuer: keys.issuer,
          audience: TOKEN_AUDIENCE,
          algorithms: ALGORITHMS,
          clockTolerance: LEEWAY_S,
          currentDate: new Date(this.#options.nowMs()),
          requiredClaims: ['exp'],
        })
        return claimsOf(payload)
      } catch (error) {
        if (error instanceof errors.JWKSNoMatchingKey && attempt === 1) {
          await this.#ask() // perhaps the cluster has a new one
          if (this.#keys !== keys) continue
        }
        return refused(401, reasonOf(error))
      }
    }
  }

  async #isThere(namespace: string, { name, uid }: { readonly name: string; readonly uid: string }): Promise<boolean> {
    const end = performance.now() + (this.#options.podWaitMs ?? POD_WAIT_MS)
    for (;;) {
      if (this.#options.pods.get(`${namespace}/${name}`)?.metadata.uid === uid) return true
      if (performance.now() >= end) return false
      await sleep(POD_LOOK_MS)
    }
  }

  /** Asks once for all who want to know, and not too often. */
  async #ask(): Promise<void> {
    if (this.#asking === null) {
      const nowMs = this.#options.nowMs()
      const sinceMs = nowMs - this.#askedAtMs
      if (sinceMs >= 0 && sinceMs < (this.#keys === null ? ASK_EVERY_MS / 10 : ASK_EVERY_MS)) return
      this.#askedAtMs = nowMs
      this.#asking = this.#read().finally(() => {
        this.#asking = null
      })
    }
    await this.#asking
  }

  async #read(): Promise<void> {
    const { kube, events, nowMs } = this.#options
    try {
      const [discovery, keys] = await Promise.all([kube.text(DISCOVERY_PATH), kube.text(JWKS_PATH)])
      const { issuer } = DiscoverySchema.parse(JSON.parse(discovery))
      this.#keys = { issuer, find: createLocalJWKSet(KeysSchema.parse(JSON.parse(keys))), readAtMs: nowMs() }
      events.count('jwksFetched')
    } catch (error) {
      this.#trouble = messageOf(error)
      events.count('jwksFailed')
      events.log('warn', "the cluster's token keys cannot be read; those that are known go on", { err: this.#trouble })
    }
  }
}

function claimsOf(payload: JWTPayload): Verdict<Claims> {
  const parsed = ClaimsSchema.safeParse(payload)
  return parsed.success
    ? { status: 'ok', identity: parsed.data['kubernetes.io'] }
    : refused(403, 'the token is not of a service account of this cluster')
}

function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'the token has expired'
  if (error instanceof errors.JWTClaimValidationFailed)
    return error.claim === 'aud'
      ? `the token is not for ${TOKEN_AUDIENCE}`
      : error.claim === 'iss'
        ? 'the token is of another issuer'
        : `the token's ${error.claim} will not do`
  if (error instanceof errors.JWKSNoMatchingKey) return 'the token is signed by a key that the cluster does not have'
  if (error instanceof errors.JWSSignatureVerificationFailed) return "the token's signature is wrong"
  return 'the token cannot be read'
}

function refused(code: 401 | 403, reason: string): { readonly status: 'refused'; readonly code: 401 | 403; readonly reason: string } {
  return { status: 'refused', code, reason }
}

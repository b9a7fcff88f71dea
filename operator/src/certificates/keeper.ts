/**
 * Keeps the operator's own certificates: for the leader, when nobody else provides them. Level-triggered: `reconcile` looks at the
 * Secret, which is the single truth, and at the webhook configuration, and does what is missing, whoever left off where. Call it on
 * each change of either, and when its `nextMs` has come.
 */
import { LABELS, MANAGED_BY } from '@farebox/crds/cluster.ts'
import { KubeError } from '../kube/kube.ts'
import type { KubeClient, KubeObject } from '../kube/kube.ts'
import { MUTATING_WEBHOOK_CONFIGURATIONS, SECRETS } from '../kube/resources.ts'
import { createAuthority, issueLeaf } from './authority.ts'
import { bundleOf, certificatesIn } from './pem.ts'
import { dataOf, plan } from './plan.ts'
import type { Holdings, Step } from './plan.ts'
import { secretData } from './secret-data.ts'
import { webhooksOf } from './trust.ts'

export const CA_FIELD_MANAGER = 'farebox-ca'

/** Steps that can follow on each other, and more. */
const STEPS_MAX = 6
/** Of writes that another replica was faster with. */
const ATTEMPTS_MAX = 3

export interface KeeperParts {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'replace' | 'apply'>
  readonly secret: { readonly namespace: string; readonly name: string }
  /** Of the MutatingWebhookConfiguration. */
  readonly webhookName: string
  /** DNS names and IP addresses by which we are reached. */
  readonly names: readonly string[]
  readonly nowMs: () => number
  readonly onReport?: (report: CertificateReport) => void
}

export interface CertificateReport {
  readonly kind: 'created' | 'rebuilt' | 'leafIssued' | 'rotationBegun' | 'rotationSwitched' | 'rotationEnded' | 'bundleApplied'
  readonly message: string
}

export interface Kept {
  /** When to look again, in ms since the epoch, if nothing changes before. */
  readonly nextMs: number
  /** What is to be trusted, PEM. */
  readonly bundle: string
  /** `absent`: there is no webhook configuration that could be told. */
  readonly webhook: 'told' | 'absent'
}

export interface Keeper {
  /** Not twice at a time. Rejects with `KubeError`. */
  reconcile(): Promise<Kept>
}

export function createKeeper(parts: KeeperParts): Keeper {
  let remembered: Holdings | null = null
  return {
    async reconcile() {
      const state = await retried(() => keep(parts, remembered))
      remembered = state.holdings
      return { nextMs: state.nextMs, bundle: state.holdings.bundle, webhook: state.webhook }
    },
  }
}

async function retried<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = ATTEMPTS_MAX - 1; ; left -= 1) {
    try {
      return await attempt()
    } catch (error) {
      const isRace = error instanceof KubeError && error.status === 409
      if (!isRace || left === 0) throw error
    }
  }
}

/** `remembered`: what the Secret held when this process last saw it: what is served now. */
async function keep(
  parts: KeeperParts,
  remembered: Holdings | null,
): Promise<{ readonly nextMs: number; readonly holdings: Holdings; readonly webhook: Kept['webhook'] }> {
  const { client, names } = parts
  let secret = await client.get(SECRETS, parts.secret.name, parts.secret.namespace)
  let published = await publishedBundles(parts)
  for (let steps = 0; steps < STEPS_MAX; steps += 1) {
    const nowMs = parts.nowMs()
    const step = withMemory(
      plan(secret === null ? null : secretData(secret), { nowMs, names, published }),
      secret,
      remembered,
      parts,
      published,
    )
    if (step.step === 'keep') {
      const webhook = await publish(parts, step.holdings.bundle)
      return { nextMs: step.nextMs, holdings: step.holdings, webhook }
    }
    const { holdings, report } = await perform(step, names, nowMs, published)
    // What is published is trusted by nobody's harm; what is served before it is published is refused.
    if (step.step === 'startOver' && step.trusted.length > 0) await publish(parts, holdings.bundle)
    secret = await write(parts, secret, holdings)
    parts.onReport?.(report)
    await publish(parts, holdings.bundle)
    published = await publishedBundles(parts)
  }
  throw new Error(`the certificates did not come to rest within ${STEPS_MAX} steps`)
}

/** A Secret that was deleted: what it held is served still, so that the new authority can be brought in as in any rotation. */
function withMemory(
  step: Step,
  secret: KubeObject | null,
  remembered: Holdings | null,
  { nowMs, names }: KeeperParts,
  published: readonly (string | null)[],
): Step {
  if (step.step !== 'startOver' || secret !== null || remembered === null) return step
  const known = plan(dataOf({ ...remembered, next: null }), { nowMs: nowMs(), names, published })
  return known.step === 'startOver' ? step : { step: 'publishNext', holdings: { ...known.holdings, next: null } }
}

async function perform(
  step: Exclude<Step, { readonly step: 'keep' }>,
  names: readonly string[],
  nowMs: number,
  published: readonly (string | null)[],
): Promise<{ readonly holdings: Holdings; readonly report: CertificateReport }> {
  switch (step.step) {
    case 'issueLeaf': {
      const leaf = await issueLeaf(step.holdings.signer, names, nowMs)
      return done({ ...step.holdings, leaf }, 'leafIssued', `a certificate was issued: ${step.reason}`)
    }
    case 'publishNext': {
      const next = await createAuthority(nowMs)
      const holdings = { ...step.holdings, next, bundle: bundleOf([...certificatesIn(step.holdings.bundle), next.cert]) }
      return done(holdings, 'rotationBegun', 'a new authority is published beside the old one')
    }
    case 'switchSigner': {
      const { next: signer, bundle } = step.holdings
      const leaf = await issueLeaf(signer, names, nowMs)
      return done({ leaf, bundle, signer, next: null }, 'rotationSwitched', 'the new authority signs')
    }
    case 'dropOld':
      return done({ ...step.holdings, bundle: step.holdings.signer.cert }, 'rotationEnded', 'the old authority is no longer trusted')
    case 'startOver': {
      const signer = await createAuthority(nowMs)
      const leaf = await issueLeaf(signer, names, nowMs)
      const holdings = { leaf, signer, next: null, bundle: bundleOf([...step.trusted, signer.cert]) }
      const isFirst = step.trusted.length === 0 && published.every((bundle) => bundle === null)
      return done(holdings, isFirst ? 'created' : 'rebuilt', `certificates were made anew: ${step.reason}`)
    }
  }
}

function done(holdings: Holdings, kind: CertificateReport['kind'], message: string) {
  return { holdings, report: { kind, message } }
}

async function write(
  { client, secret: { namespace, name } }: KeeperParts,
  before: KubeObject | null,
  holdings: Holdings,
): Promise<KubeObject> {
  const data = Object.fromEntries(
    Object.entries(dataOf(holdings)).map(([key, text]) => [key, Buffer.from(text, 'utf8').toString('base64')]),
  )
  if (before !== null) return client.replace(SECRETS, { ...before, apiVersion: 'v1', kind: 'Secret', data })
  const metadata = { name, namespace, labels: { [LABELS.managedBy]: MANAGED_BY } }
  return client.create(SECRETS, { apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/tls', data })
}

async function publishedBundles({ client, webhookName }: KeeperParts): Promise<readonly (string | null)[]> {
  const configuration = await client.get(MUTATING_WEBHOOK_CONFIGURATIONS, webhookName)
  return configuration === null ? [] : webhooksOf(configuration).map(({ caBundle }) => caBundle)
}

/** Only that field, so that whoever owns the rest may write it without ever meeting us. */
async function publish({ client, webhookName, onReport }: KeeperParts, bundle: string): Promise<Kept['webhook']> {
  const configuration = await client.get(MUTATING_WEBHOOK_CONFIGURATIONS, webhookName)
  const webhooks = configuration === null ? [] : webhooksOf(configuration)
  if (configuration === null || webhooks.length === 0) return 'absent'
  if (webhooks.every(({ caBundle }) => caBundle === bundle)) return 'told'
  const caBundle = Buffer.from(bundle, 'utf8').toString('base64')
  await client.apply(
    MUTATING_WEBHOOK_CONFIGURATIONS,
    {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: webhookName },
      webhooks: webhooks.map(({ name }) => ({ name, clientConfig: { caBundle } })),
    },
    { fieldManager: CA_FIELD_MANAGER, force: true },
  )
  onReport?.({ kind: 'bundleApplied', message: `the bundle of ${webhookName} is what the Secret says` })
  return 'told'
}

/** Plans and budgets of these tests, and how to look at them. */
import { ok } from 'node:assert/strict'
import type { Condition } from '@farebox/crds/fields.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'

const API = '/apis/farebox.dev/v1alpha1'

export interface Shown {
  readonly metadata: {
    readonly name: string
    readonly generation?: number
    readonly resourceVersion: string
    readonly uid: string
    readonly creationTimestamp: string
  }
  readonly spec?: unknown
  readonly data?: Readonly<Record<string, string>>
  readonly status?: {
    readonly observedGeneration?: number
    readonly conditions?: readonly Condition[]
    readonly config?: { readonly version: number; readonly hash: string }
    readonly workloads?: Readonly<Record<string, unknown>>
    readonly [field: string]: unknown
  }
}

export function tierOf(name: string, price = '2.00', more: object = {}): object {
  return {
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'PricingTier',
    metadata: { name },
    spec: {
      displayName: 'Pro',
      pricing: { model: 'PerConversation', price },
      unitEconomics: { targetGrossMarginPercent: 70 },
      ...more,
    },
  }
}

export function budgetOf(namespace: string, name: string, tier: string, more: object = {}): object {
  return {
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'ConversationBudget',
    metadata: { name, namespace },
    spec: { selector: { matchLabels: { app: name } }, tier: { default: tier }, store: { kind: 'Embedded' }, ...more },
  }
}

export async function apply(cluster: Cluster, ...objects: readonly object[]): Promise<void> {
  await cluster.kubectl(['apply', '--validate=strict', '-f', '-'], {
    input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
  })
}

export function tierPath(name: string): string {
  return `${API}/pricingtiers/${name}`
}

export function budgetPath(namespace: string, name: string): string {
  return `${API}/namespaces/${namespace}/conversationbudgets/${name}`
}

export function configMapPath(namespace: string, budget: string): string {
  return `/api/v1/namespaces/${namespace}/configmaps/farebox-config-${budget}`
}

/** Null: there is none. */
export async function shown(cluster: Cluster, path: string): Promise<Shown | null> {
  const { status, body } = await cluster.request<Shown>({ path })
  return status === 200 ? body : null
}

export function conditionOf(object: Shown | null, type: string): Condition | undefined {
  return object?.status?.conditions?.find((condition) => condition.type === type)
}

/** `Accepted=False TierNotFound` and the like; those of `wanted` must hold at once, of the object's newest generation. */
export async function untilSaid(cluster: Cluster, path: string, wanted: readonly string[], withinMs = 15_000): Promise<Shown> {
  return waitFor(
    `${path}: ${wanted.join(', ')}`,
    async () => {
      const object = await shown(cluster, path)
      const said = (object?.status?.conditions ?? []).map(({ type, status, reason }) => `${type}=${status} ${reason}`)
      const isNow = object !== null && object.status?.observedGeneration === object.metadata.generation
      if (isNow && wanted.every((text) => said.some((condition) => condition === text || condition.startsWith(`${text} `)))) return object
      throw new Error(JSON.stringify(object?.status ?? object))
    },
    { withinMs },
  )
}

/** Ages are told in seconds: what is made from now on is younger than `object`. */
export async function untilOlder({ metadata }: Shown): Promise<void> {
  await waitFor('the next second', () => Date.now() - Date.parse(metadata.creationTimestamp) >= 1_000)
}

/** The config that a config map carries. */
export function configIn(object: Shown | null): { readonly hash: string; readonly version: number; readonly limits: readonly unknown[] } {
  const text = object?.data?.['config.json']
  ok(text !== undefined, 'a config map with a config')
  return JSON.parse(text) as ReturnType<typeof configIn>
}

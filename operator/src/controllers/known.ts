/** Objects of the API server as what they are understood: ours checked, config maps read, nodes by whether they run sidecars. */
import { checkObject } from '@farebox/crds/check.ts'
import type { FareboxObject, Kind, Problem } from '@farebox/crds/check.ts'
import { CONFIG_KEYS } from '@farebox/crds/cluster.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import * as z from 'zod'
import type { ConfigName } from '../core/compile.ts'
import { configNameOf, configOfText } from '../core/config-text.ts'
import type { NotUnderstood } from '../core/not-understood.ts'
import { isTooOld } from '../core/old-node.ts'
import type { OldNode } from '../core/old-node.ts'
import { streamConfigOf } from '../delivery/stream-hub.ts'
import type { StreamConfig } from '../delivery/stream-hub.ts'
import type { KubeObject } from '../kube/kube.ts'

/** An object of one of our kinds, as the API server has it, and as what it was understood. */
export interface Known<T> {
  readonly object: KubeObject
  readonly checked: { readonly status: 'ok'; readonly value: T } | { readonly status: 'invalid'; readonly problems: readonly Problem[] }
}

/** A config map that we wrote, or that somebody has changed since. */
export interface KnownConfigMap {
  readonly object: KubeObject
  /** Null: it holds no config that this version would have written. */
  readonly config: SidecarConfig | null
  /** Of the config, which another version may have written. Null: it is none, or not the one that its hash says. */
  readonly name: ConfigName | null
  readonly stream: StreamConfig | null
}

/** A parser of objects: one that is not as its schema wants it is known as invalid, with what is wrong. Never throws. */
export function parseAs<K extends Kind>(kind: K): (object: KubeObject) => Known<OfKind<K>> {
  return (object) => {
    const checked = checkObject(object)
    if (checked.status === 'invalid') return { object, checked }
    const { value } = checked
    if (isOfKind(value, kind)) return { object, checked: { status: 'ok', value } }
    return { object, checked: { status: 'invalid', problems: [{ field: 'kind', message: `must be another than ${value.kind}` }] } }
  }
}

/** Those that can be compiled: not those that are being deleted. */
export function understood<T>(all: Iterable<Known<T>>): readonly T[] {
  return [...all].flatMap(({ object, checked }) =>
    checked.status === 'ok' && object.metadata.deletionTimestamp === undefined ? [checked.value] : [],
  )
}

/** The others: not those that are being deleted. */
export function notUnderstood(all: Iterable<Known<unknown>>): readonly NotUnderstood[] {
  return [...all].flatMap(({ object: { metadata }, checked }) =>
    checked.status === 'invalid' && metadata.deletionTimestamp === undefined ? [{ name: metadata.name, problems: checked.problems }] : [],
  )
}

/** Null: it can run sidecars. */
export function oldNodeOf({ metadata: { labels = {} }, status, spec }: KubeObject): OldNode | null {
  const kubelet = NodeStatus.safeParse(status).data?.nodeInfo.kubeletVersion ?? ''
  if (!isTooOld(kubelet)) return null
  return { kubelet, labels, taints: NodeSpec.safeParse(spec).data?.taints ?? [] }
}

/** One that we label as ours, be it as we wrote it or not. */
export function configMapOf(object: KubeObject): KnownConfigMap {
  const text = textIn(object, CONFIG_KEYS.config)
  if (text === null) return { object, config: null, name: null, stream: null }
  let config: SidecarConfig | null | undefined
  return {
    object,
    // Milliseconds and memory for each, which only the leader needs, and not even that of what it wrote itself.
    get config() {
      if (config === undefined) config = configOfText(text)
      return config
    },
    // At once, as each comes: every stream asks for it, and hundreds of them together would stop the process.
    name: configNameOf(text),
    stream: streamConfigOf(text),
  }
}

/** Of a config map. Null: it has no such key. */
export function textIn({ data }: KubeObject, key: string): string | null {
  const text = typeof data === 'object' && data !== null ? Object.entries(data).find(([name]) => name === key)?.[1] : undefined
  return typeof text === 'string' ? text : null
}

type OfKind<K extends Kind> = Extract<FareboxObject, { readonly kind: K }>

function isOfKind<K extends Kind>(value: FareboxObject, kind: K): value is OfKind<K> {
  return value.kind === kind
}

const NodeStatus = z.object({ nodeInfo: z.object({ kubeletVersion: z.string() }) })
const NodeSpec = z.object({ taints: z.array(z.object({ key: z.string(), value: z.string().optional(), effect: z.string() })).optional() })

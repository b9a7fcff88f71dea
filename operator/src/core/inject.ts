/**
 * A pod at admission -> the patch that puts the sidecar into it, or why it gets none. Done again on its own result, as the API
 * server does when another webhook changed the pod since, it changes nothing but what is new: a container that came meanwhile gets
 * its variables, and there is never a second sidecar. Entries of others are never touched, save a provider's key that the sidecar is to hold alone.
 */
import { ANNOTATIONS, LABELS, SIDECAR_CONTAINER, VOLUMES } from '@farebox/crds/cluster.ts'
import type { SkipReason } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { isOfAnotherInjector, leaveEnv, planEnv } from './app-env.ts'
import type { EnvPlan, FoundKey } from './app-env.ts'
import { INJECTION_HASH_PATTERN, injectionHash } from './injection-hash.ts'
import { sidecarContainer, sidecarVolumes } from './injection.ts'
import type { InjectionSettings, OwnEntry } from './injection.ts'
import { append, insert, pointer, setEntries } from './json-patch.ts'
import type { JsonPatch } from './json-patch.ts'
import { KUBELET_MINOR_MIN, oldNodeFor } from './old-node.ts'
import type { OldNode } from './old-node.ts'
import { isWithin, withOwn } from './own-entry.ts'
import type { Container, Pod } from './pod.ts'
import { dnsWarning } from './pod-dns.ts'
import { sidecarResources } from './resources.ts'
import { appVariables } from './sdk-variables.ts'
import type { AppVariables } from './sdk-variables.ts'
import { whyWaiting } from './waiting.ts'

/** Where the pod is to run. */
export interface Place {
  readonly namespace: string
  /** Of the cluster's, the oldest first. */
  readonly oldNodes: readonly OldNode[]
  /** Budgets of the namespace by name, of which nobody knows which pods they select. */
  readonly unreadable: readonly string[]
}

/** Warnings are for the person at the keyboard: at most 256 characters each, which is what the API server shows. */
export type InjectionPlan =
  | { readonly status: 'inject'; readonly patch: JsonPatch; readonly warnings: readonly string[]; readonly hash: string }
  | { readonly status: 'skip'; readonly reason: SkipReason; readonly patch: JsonPatch; readonly warnings: readonly string[] }
  | { readonly status: 'none'; readonly warnings: readonly string[] }

/** What becomes of a pod as it is admitted. `budget`: the one that governs it; null: none. */
export function planInjection(pod: Pod, place: Place, budget: ConversationBudget | null, settings: InjectionSettings): InjectionPlan {
  if (budget === null) return { status: 'none', warnings: [...askedInVain(pod, place), ...perhapsMissed(place)].map(asWarning) }
  const skip = skipOf(pod, place)
  if (skip !== null) {
    const { reason, message } = skip
    const patch = annotationsPatch(pod, {
      [ANNOTATIONS.skipped]: reason,
      [ANNOTATIONS.warnings]: message.slice(0, WARNINGS_CHARS_MAX),
      ...(isOurs(pod) ? {} : { [ANNOTATIONS.budget]: null, [ANNOTATIONS.injectionHash]: null, [ANNOTATIONS.sidecarVersion]: null }),
      [ANNOTATIONS.sharedKeys]: null,
    })
    return { status: 'skip', reason, patch, warnings: [asWarning(`no sidecar (${reason}): ${message}`)] }
  }
  const hash = injectionHash(budget, settings)
  const variables = appVariables(budget)
  const sidecar = placeSidecar(pod, budget, settings, hash)
  const env = envPlans(pod, sidecar, budget.spec.injection.excludeContainers, variables)
  const podKeys = keysOfPod(pod, variables)
  const why = whyWaiting(budget)
  const waits = why === null ? [] : [`this pod waits until ConversationBudget "${budget.metadata.name}" is in force: ${why}`]
  const dns = dnsWarning(pod)
  const names = dns === null ? [] : [dns]
  const warnings = [...new Set([...waits, ...names, ...podKeys.map(({ warning }) => warning), ...env.flatMap((each) => each.warnings)])]
  const sharedKeys = new Set([...podKeys.map(({ upstream }) => upstream), ...env.flatMap((each) => each.sharedKeys)])
  const missingPullSecrets = [...new Set(settings.pullSecrets)].filter(
    (name) => !(pod.spec.imagePullSecrets ?? []).some((secret) => secret.name === name),
  )
  return {
    status: 'inject',
    hash,
    patch: [
      ...sidecar.patch,
      ...env.flatMap(({ patch }) => patch),
      ...volumesPatch(pod, sidecarVolumes(budget)),
      ...append(
        '/spec/imagePullSecrets',
        pod.spec.imagePullSecrets,
        missingPullSecrets.map((name) => ({ name })),
      ),
      ...annotationsPatch(pod, {
        [ANNOTATIONS.budget]: budget.metadata.name,
        [ANNOTATIONS.injectionHash]: hash,
        [ANNOTATIONS.sidecarVersion]: settings.sidecarVersion,
        [ANNOTATIONS.skipped]: null,
        [ANNOTATIONS.warnings]: warningsText(pod, warnings),
        [ANNOTATIONS.sharedKeys]: sharedKeys.size === 0 ? null : [...sharedKeys].toSorted().join(','),
        ...evictableVolumes(pod, budget),
      }),
    ],
    warnings: [`sidecar injected: ConversationBudget "${budget.metadata.name}" governs this pod`, ...warnings].map(asWarning),
  }
}

const WARNING_CHARS_MAX = 256

function asWarning(message: string): string {
  const warning = `farebox: ${message}`
  return warning.length <= WARNING_CHARS_MAX ? warning : `${warning.slice(0, WARNING_CHARS_MAX - 3)}...`
}

/** For an event, which has 1 KiB. */
const WARNINGS_CHARS_MAX = 900

/** Those of an earlier round stay: a key that was replaced then is not there to be warned of now. */
function warningsText(pod: Pod, warnings: readonly string[]): string | null {
  const earlier = (isOurs(pod) && pod.metadata.annotations?.[ANNOTATIONS.warnings]?.split('\n')) || []
  const lines = [...new Set([...earlier, ...warnings])]
  return lines.length === 0 ? null : lines.join('\n').slice(0, WARNINGS_CHARS_MAX)
}

function askedInVain({ metadata }: Pod, { namespace }: Place): readonly string[] {
  if (metadata.labels?.[LABELS.inject] !== 'enabled') return []
  return [`no sidecar: the label ${LABELS.inject} asks for one, but no ConversationBudget of namespace "${namespace}" selects this pod`]
}

function perhapsMissed({ unreadable }: Place): readonly string[] {
  return unreadable.map(
    (name) =>
      `no sidecar, for all that is known: ConversationBudget "${name}" cannot be read by this version, and may select this pod; see its status`,
  )
}

interface Skip {
  readonly reason: SkipReason
  readonly message: string
}

function skipOf(pod: Pod, { oldNodes }: Place): Skip | null {
  const { metadata, spec } = pod
  const label = metadata.labels?.[LABELS.inject]
  if (metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined)
    return { reason: 'MirrorPod', message: 'a static pod is what its node has on disk' }
  if (label === 'disabled') return { reason: 'OptedOut', message: `the label ${LABELS.inject} says so` }
  if (label !== undefined && label !== 'enabled')
    return { reason: 'InvalidLabel', message: `the label ${LABELS.inject} must be "enabled" or "disabled", not "${label}"` }
  if (spec.hostNetwork === true)
    return { reason: 'HostNetwork', message: 'with hostNetwork, 127.0.0.1 is the node, where others would reach the sidecar' }
  if (spec.os?.name === 'windows' || spec.nodeSelector?.['kubernetes.io/os'] === 'windows')
    return { reason: 'Windows', message: 'there is no sidecar for Windows' }
  // A sidecar that is in the pod already cannot be taken out again, whatever another webhook lets the pod tolerate meanwhile.
  const old = isOurs(pod) ? undefined : oldNodeFor(pod, oldNodes)
  if (old !== undefined)
    return {
      reason: 'NativeUnsupported',
      message: `a node that this pod may run on has Kubernetes ${old.kubelet}; sidecars need 1.${KUBELET_MINOR_MIN} or later`,
    }
  const owned = ownedByUser(pod)
  return owned === null ? null : { reason: 'UserOwnsContainer', message: owned }
}

/** What has our name without being ours; null: nothing. */
function ownedByUser(pod: Pod): string | null {
  const { containers, initContainers, volumes } = pod.spec
  if (containers.some(({ name }) => name === SIDECAR_CONTAINER))
    return `the pod has a container "${SIDECAR_CONTAINER}" of its own, which stays as it is`
  const names: readonly string[] = Object.values(VOLUMES)
  for (const { name, volumeMounts } of [...(initContainers ?? []), ...containers]) {
    if (name === SIDECAR_CONTAINER) continue
    const mount = volumeMounts?.find((each) => names.includes(each.name))
    if (mount !== undefined)
      return `container "${name}" mounts the volume "${mount.name}", which is for the sidecar alone: it may hold keys`
  }
  if (isOurs(pod)) return null
  if (initContainers?.some(({ name }) => name === SIDECAR_CONTAINER) === true)
    return `the pod has an init container "${SIDECAR_CONTAINER}" of its own, which stays as it is`
  const volume = volumes?.find(({ name }) => names.includes(name))
  return volume === undefined ? null : `the pod has a volume "${volume.name}" of its own, whose name the sidecar needs`
}

/** Injected before, by this version or another: by the name of the container and by our annotation. */
function isOurs({ metadata, spec }: Pod): boolean {
  return (
    INJECTION_HASH_PATTERN.test(metadata.annotations?.[ANNOTATIONS.injectionHash] ?? '') &&
    spec.initContainers?.some(({ name }) => name === SIDECAR_CONTAINER) === true
  )
}

/** Mesh containers that set up the network: the sidecar comes after them, since they would move to the front again anyway. */
const BEFORE_SIDECAR = ['istio-init', 'istio-validation', 'istio-proxy', 'linkerd-init', 'linkerd-network-validator', 'linkerd-proxy']

interface Placed {
  readonly patch: JsonPatch
  /** Where the sidecar is among the init containers afterwards. */
  readonly index: number
  readonly isNew: boolean
}

/** `hash`: of what is put into pods today. */
function placeSidecar(pod: Pod, budget: ConversationBudget, settings: InjectionSettings, hash: string): Placed {
  const { initContainers, securityContext } = pod.spec
  const known = (initContainers ?? []).findIndex(({ name }) => name === SIDECAR_CONTAINER)
  const existing = initContainers?.[known]
  if (existing === undefined) {
    const own = sidecarContainer(budget, settings, sidecarResources(pod, settings.resources), securityContext?.runAsUser)
    const index = (initContainers ?? []).findLastIndex(({ name }) => BEFORE_SIDECAR.includes(name)) + 1
    return { patch: insert('/spec/initContainers', initContainers, index, [own]), index, isNew: true }
  }
  // Its resources stay: another may have sized them since, and they fit the pod as it was.
  const { resources: _stay, ...own } = sidecarContainer(budget, settings, quantitiesOf(existing), securityContext?.runAsUser)
  // Of this version and budget it was right as we wrote it: whoever changed it since meant to, and may not be asked again after us.
  const isCurrent = pod.metadata.annotations?.[ANNOTATIONS.injectionHash] === hash
  const [found, wanted] = isCurrent ? [existing, withTheirs(own, existing)] : [withoutTheirs(existing), own]
  return { patch: restore(pointer('spec', 'initContainers', known), found, wanted), index: known, isNew: false }
}

/** What others set on containers for reasons of the cluster: a mirror, when to pull, a mesh's way to a probe, a profile for each. */
const OTHERS_MAY_SET: ReadonlySet<string> = new Set(['image', 'imagePullPolicy', 'startupProbe', 'livenessProbe', 'seccompProfile'])

type Fields = Readonly<Record<string, unknown>>

/** Ours, with what they set in `existing`. */
function withTheirs(own: Fields, existing: Fields): Fields {
  const theirs = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([field]) => OTHERS_MAY_SET.has(field)))
  return { ...own, ...theirs(existing), securityContext: { ...securityOf(own), ...theirs(securityOf(existing)) } }
}

function withoutTheirs(existing: Fields): Fields {
  const rest = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([field]) => !OTHERS_MAY_SET.has(field)))
  return { ...rest(existing), securityContext: rest(securityOf(existing)) }
}

function securityOf({ securityContext }: Fields): Fields {
  return typeof securityContext === 'object' && securityContext !== null ? { ...securityContext } : {}
}

function quantitiesOf({ resources }: Container): { readonly limits: Readonly<Record<string, string>> } {
  return { limits: Object.fromEntries(Object.entries(resources?.limits ?? {}).map(([name, value]) => [name, String(value)])) }
}

function restore(path: string, existing: unknown, own: unknown): JsonPatch {
  return isWithin(own, existing) ? [] : [{ op: 'replace', path, value: withOwn(existing, own) }]
}

function volumesPatch({ spec: { volumes } }: Pod, own: readonly OwnEntry[]): JsonPatch {
  const restored = (volumes ?? []).flatMap((existing, index) => {
    const mine = own.find(({ name }) => name === existing.name)
    return mine === undefined ? [] : restore(pointer('spec', 'volumes', index), existing, mine)
  })
  const missing = own.filter(({ name }) => !(volumes ?? []).some((existing) => existing.name === name))
  return [...restored, ...append('/spec/volumes', volumes, missing)]
}

/** Null takes one away: a pod made from the template of another brings what was said of that along. */
function annotationsPatch({ metadata: { annotations } }: Pod, own: Readonly<Record<string, string | null>>): JsonPatch {
  const entries = Object.entries(own)
  return [
    ...setEntries(
      '/metadata/annotations',
      annotations,
      Object.fromEntries(entries.flatMap(([key, value]) => (value === null ? [] : [[key, value]]))),
    ),
    ...entries
      .filter(([key, value]) => value === null && annotations?.[key] !== undefined)
      .map(([key]) => ({ op: 'remove' as const, path: pointer('metadata', 'annotations', key) })),
  ]
}

/** Of the cluster autoscaler, comma-separated: it removes no node with a pod that has other local volumes. */
const EVICTABLE_VOLUMES = 'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes'

/** What the sidecar has on its volume is for the life of the pod, save books that are nowhere else. */
function evictableVolumes({ metadata }: Pod, { spec }: ConversationBudget): Readonly<Record<string, string>> {
  if (spec.store.kind === 'Embedded') return {}
  const said = metadata.annotations?.[EVICTABLE_VOLUMES] ?? ''
  const names = said.split(',')
  return { [EVICTABLE_VOLUMES]: names.includes(VOLUMES.data) ? said : said === '' ? VOLUMES.data : `${said},${VOLUMES.data}` }
}

/** Init containers that run before the sidecar would find nobody there. */
function envPlans({ spec }: Pod, sidecar: Placed, excluded: readonly string[], variables: AppVariables): readonly EnvPlan[] {
  const shift = sidecar.isNew ? 1 : 0
  const initContainers = (spec.initContainers ?? []).map((container, place) => {
    const index = place + (place >= sidecar.index ? shift : 0)
    return { container, path: pointer('spec', 'initContainers', index), isBefore: index < sidecar.index }
  })
  const containers = spec.containers.map((container, index) => ({
    container,
    path: pointer('spec', 'containers', index),
    isBefore: false,
  }))
  return [...initContainers, ...containers]
    .filter(({ container }) => container.name !== SIDECAR_CONTAINER)
    .map(({ container, path, isBefore }) => {
      const isLeft = isBefore || isOfAnotherInjector(container) || excluded.includes(container.name)
      const plan = isLeft ? leaveEnv(container, variables) : planEnv(container, path, variables)
      return { ...plan, warnings: plan.warnings.map((warning) => `container "${container.name}": ${warning}`) }
    })
}

/** What all containers of a pod may have of a key that the sidecar holds. */
function keysOfPod({ spec }: Pod, { held }: AppVariables): readonly FoundKey[] {
  const mounted = (spec.volumes ?? [])
    .filter(({ name }) => name !== VOLUMES.credentials && name !== VOLUMES.claimKeys)
    .flatMap(({ secret, projected }) => [secret?.secretName, ...(projected?.sources ?? []).map((source) => source.secret?.name)])
  const memory = [
    ...(spec.shareProcessNamespace === true ? ['shareProcessNamespace'] : []),
    ...(spec.hostPID === true ? ['hostPID'] : []),
  ].map((field) => `${field} lets the app read the memory of the sidecar, and the key in it`)
  return [
    ...memory.flatMap((warning) => held.map(({ upstream }) => ({ upstream, warning }))),
    ...held
      .filter(({ name }) => mounted.includes(name))
      .map(({ name, upstream }) => ({
        upstream,
        warning: `a volume brings Secret "${name}", whose key the sidecar should hold alone: take it away`,
      })),
  ]
}

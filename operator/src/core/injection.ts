/** What is put into pods: the sidecar's container, its volumes, and the settings that they are made from. */
import {
  CONFIG_KEYS,
  OWN_STORE_CA_KEY,
  PATHS,
  PORTS,
  RUNTIME_KEYS,
  RUNTIME_SECRET,
  SIDECAR_CONTAINER,
  TOKEN_AUDIENCE,
  TOKEN_LIFE_S,
  VOLUMES,
} from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { configMapName } from './config-map-name.ts'
import { heapMib } from './resources.ts'
import type { ResourceSettings, SidecarResources } from './resources.ts'
import { heldOf, upstreamsOf } from './upstreams.ts'
import type { HeldValue } from './upstreams.ts'

export interface InjectionSettings {
  /** With its digest, or a tag that is never moved. */
  readonly sidecarImage: string
  /** For people: it stands in an annotation of the pod. */
  readonly sidecarVersion: string
  readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never'
  readonly resources: ResourceSettings
  /** Names of Secrets that must be in the pod's namespace. */
  readonly pullSecrets: readonly string[]
  /** `https://HOST:PORT` of the delivery listener. */
  readonly deliveryUrl: string
  readonly logLevel: string
  /** How long sidecars keep entries of the ledger; null: for good. */
  readonly ledgerDays: number | null
}

/** A container or volume as we write it. */
export interface OwnEntry {
  readonly name: string
  readonly [field: string]: unknown
}

/** The user of the image: said only where the pod would make the sidecar root, which it refuses to be. */
const IMAGE_USER = 65_532
/**
 * Where the API server mounts the token of the pod's service account, unless something is mounted there: the sidecar has nothing to ask
 * of it. And what it would add to our container after us would make it ask us a second time about each pod.
 */
const API_TOKEN_PATH = '/var/run/secrets/kubernetes.io/serviceaccount'
/** ms in which the sidecar ends after SIGTERM: within the 2 s that the kubelet leaves it when the grace period is spent. */
const DRAIN_MS = 1_500

type Budget = Pick<ConversationBudget, 'spec' | 'metadata'>

/** The container that a pod gets. `podUser`: `runAsUser` of the pod, where it says one. */
export function sidecarContainer(
  budget: Budget,
  settings: InjectionSettings,
  resources: SidecarResources,
  podUser: number | null | undefined,
): OwnEntry {
  const store = storeOf(budget)
  const held = heldValues(budget).length > 0
  const claims = claimSecret(budget)
  return {
    name: SIDECAR_CONTAINER,
    image: settings.sidecarImage,
    imagePullPolicy: settings.pullPolicy,
    restartPolicy: 'Always', // which makes an init container a sidecar
    env: [
      { name: 'NODE_OPTIONS', value: `--max-old-space-size=${heapMib(resources)}` },
      { name: 'FAREBOX_CONFIG', value: `${PATHS.config}/${CONFIG_KEYS.config}` },
      { name: 'FAREBOX_DATA', value: PATHS.data },
      { name: 'FAREBOX_LISTEN', value: `127.0.0.1:${PORTS.data}` },
      { name: 'FAREBOX_ADMIN', value: `:${PORTS.admin}` }, // all addresses of the pod, IPv6 and IPv4
      { name: 'FAREBOX_NAMESPACE', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' } } },
      { name: 'FAREBOX_POD', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } },
      { name: 'FAREBOX_OPERATOR', value: settings.deliveryUrl },
      { name: 'FAREBOX_OPERATOR_CA', value: `${PATHS.config}/${CONFIG_KEYS.trust}` },
      { name: 'FAREBOX_TOKEN', value: `${PATHS.token}/token` },
      ...(store === null
        ? []
        : [
            { name: 'FAREBOX_STORE_FILE', value: `${PATHS.runtime}/${RUNTIME_KEYS.store}` },
            { name: 'FAREBOX_STORE_CA', value: `${PATHS.runtime}/${RUNTIME_KEYS.storeCa}` },
          ]),
      ...(store?.hasIdentityKey === true
        ? [{ name: 'FAREBOX_IDENTITY_KEY_FILE', value: `${PATHS.runtime}/${RUNTIME_KEYS.identityKey}` }]
        : []),
      ...(held ? [{ name: 'FAREBOX_CREDENTIALS', value: PATHS.credentials }] : []),
      ...(claims === null ? [] : [{ name: 'FAREBOX_CLAIM_KEYS', value: PATHS.claimKeys }]),
      ...(settings.ledgerDays === null ? [] : [{ name: 'FAREBOX_LEDGER_DAYS', value: String(settings.ledgerDays) }]),
      { name: 'FAREBOX_DRAIN', value: String(DRAIN_MS) },
      { name: 'FAREBOX_LOG_LEVEL', value: settings.logLevel },
    ],
    ports: [{ name: 'farebox-metrics', containerPort: PORTS.admin, protocol: 'TCP' }],
    // Asks for the listener and some config, never for the operator or the store: a pod starts without them.
    startupProbe: { httpGet: { path: '/startz', port: PORTS.admin }, periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 300 },
    // For an event loop that is stuck. No readiness probe: it would take the app out of its Services.
    livenessProbe: { httpGet: { path: '/healthz', port: PORTS.admin }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
    securityContext: {
      runAsNonRoot: true,
      ...(podUser === 0 ? { runAsUser: IMAGE_USER } : {}), // else none, since OpenShift assigns one
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: VOLUMES.config, mountPath: PATHS.config, readOnly: true },
      { name: VOLUMES.data, mountPath: PATHS.data },
      { name: VOLUMES.token, mountPath: PATHS.token, readOnly: true },
      { name: VOLUMES.token, mountPath: API_TOKEN_PATH, readOnly: true },
      ...(store === null ? [] : [{ name: VOLUMES.runtime, mountPath: PATHS.runtime, readOnly: true }]),
      ...(held ? [{ name: VOLUMES.credentials, mountPath: PATHS.credentials, readOnly: true }] : []),
      ...(claims === null ? [] : [{ name: VOLUMES.claimKeys, mountPath: PATHS.claimKeys, readOnly: true }]),
    ],
  }
}

/** Its own token, so that `automountServiceAccountToken: false` does not matter. */
export function sidecarVolumes(budget: Budget): readonly OwnEntry[] {
  const store = storeOf(budget)
  const held = heldValues(budget)
  const claims = claimSecret(budget)
  return [
    { name: VOLUMES.config, configMap: { name: configMapName(budget.metadata.name), optional: true } },
    { name: VOLUMES.data, emptyDir: {} },
    {
      name: VOLUMES.token,
      projected: { sources: [{ serviceAccountToken: { audience: TOKEN_AUDIENCE, expirationSeconds: TOKEN_LIFE_S, path: 'token' } }] },
    },
    ...(store === null ? [] : [{ name: VOLUMES.runtime, projected: { sources: runtimeSources(store) } }]),
    ...(held.length === 0
      ? []
      : [
          {
            name: VOLUMES.credentials,
            projected: {
              sources: held.map(({ file, secret }) => ({
                secret: { name: secret.name, items: [{ key: secret.key, path: file }] },
              })),
            },
          },
        ]),
    // Whole, so that keys come and go while the pod runs.
    ...(claims === null ? [] : [{ name: VOLUMES.claimKeys, secret: { secretName: claims } }]),
  ]
}

interface StoreFiles {
  readonly secretName: string
  readonly items: readonly { readonly key: string; readonly path: string }[]
  /** Which key has the authority of the store's certificate, if any. */
  readonly caKey: string
  readonly hasIdentityKey: boolean
}

/** The pod waits for the address. It does not wait for an authority, which most stores do not need: that is optional by itself. */
function runtimeSources({ secretName: name, items, caKey }: StoreFiles): readonly object[] {
  return [{ secret: { name, items } }, { secret: { name, items: [{ key: caKey, path: RUNTIME_KEYS.storeCa }], optional: true } }]
}

/** Null: the books are in the pod. With a store of the user's own, sidecars agree on their identity key in it. */
function storeOf({ spec: { store } }: Budget): StoreFiles | null {
  if (store.kind === 'Embedded') return null
  const { redis } = store
  if (redis !== undefined) {
    const items = [{ key: redis.secretRef.key, path: RUNTIME_KEYS.store }]
    return { secretName: redis.secretRef.name, items, caKey: OWN_STORE_CA_KEY, hasIdentityKey: false }
  }
  const items = [RUNTIME_KEYS.store, RUNTIME_KEYS.identityKey].map((key) => ({ key, path: key }))
  return { secretName: RUNTIME_SECRET, items, caKey: RUNTIME_KEYS.storeCa, hasIdentityKey: true }
}

function heldValues(budget: Budget): readonly HeldValue[] {
  return upstreamsOf(budget).flatMap(heldOf)
}

/** Null: claims are not signed. */
function claimSecret({ spec: { tier } }: Budget): string | null {
  return tier.claim?.token?.secretRef.name ?? null
}

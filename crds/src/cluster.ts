/**
 * What operator, sidecar, chart and admission policy call things in a cluster. Names only: they are part of the contract, since
 * pods that were injected by one version are served by the next.
 */

/** Of all labels and annotations. */
const PREFIX = 'farebox.dev'

export const LABELS = {
  /** On what the operator writes: `farebox`. */
  managedBy: 'app.kubernetes.io/managed-by',
  /** On a pod: `disabled` opts it out. Other values than `enabled` are taken for a slip of the pen, and warned of. */
  inject: `${PREFIX}/inject`,
} as const
export const MANAGED_BY = 'farebox'

export const ANNOTATIONS = {
  /** On an injected pod: the budget that governed it when it was admitted. */
  budget: `${PREFIX}/budget`,
  /** On an injected pod: hash of what the injection was made from; a pod with another one is outdated. */
  injectionHash: `${PREFIX}/injection-hash`,
  /** On an injected pod: the version of the sidecar. */
  sidecarVersion: `${PREFIX}/sidecar-version`,
  /** On a pod that a budget selects and that was not injected: why, one of `SKIP_REASONS`. */
  skipped: `${PREFIX}/skipped`,
  /** On a pod that was looked at: what its maker should know, a line each. A controller does not show the warnings of the answer. */
  warnings: `${PREFIX}/warnings`,
  /** On an injected pod: the upstreams whose key it may have beside its sidecar, which should hold it alone: `anthropic,openai`. */
  sharedKeys: `${PREFIX}/shared-keys`,
  /** On a config map: the budget that its config was compiled from. */
  configOf: `${PREFIX}/config-of`,
  /** On the operator's Lease: `HOST:PORT` of the leader's delivery listener. */
  leaderAddress: `${PREFIX}/leader-address`,
} as const

/**
 * Of a pod that nothing was said of: it was made before its budget was, its namespace is one that the webhook leaves out, or it was never
 * asked about, as while the webhook was away.
 */
export const NOT_ASKED_REASONS = ['OlderThanBudget', 'NamespaceExcluded', 'Missed'] as const

/** Why a pod that a budget selects has no sidecar. */
export const SKIP_REASONS = [
  'OptedOut',
  'HostNetwork',
  'Windows',
  'MirrorPod',
  'UserOwnsContainer',
  'NativeUnsupported',
  'InvalidLabel',
  ...NOT_ASKED_REASONS,
] as const
export type SkipReason = (typeof SKIP_REASONS)[number]

/** The injected container, and its volumes by name. */
export const SIDECAR_CONTAINER = 'farebox'
export const VOLUMES = {
  config: 'farebox-config',
  data: 'farebox-data',
  token: 'farebox-token',
  runtime: 'farebox-runtime',
  credentials: 'farebox-credentials',
  claimKeys: 'farebox-claim-keys',
} as const

/** Where the sidecar finds things. */
export const PATHS = {
  /** A config map: `config.json` and `ca.crt`. */
  config: '/etc/farebox/config',
  /** An emptyDir: journal, last config in force, embedded books. */
  data: '/var/lib/farebox',
  /** A projected token: `token`. */
  token: '/var/run/secrets/farebox/token',
  /** Of a secret: `store`, `identity-key`, `store-ca.crt`. */
  runtime: '/var/run/secrets/farebox/runtime',
  /** One file for each upstream whose key the sidecar holds, by the upstream's name; and for each header whose value it holds, by `headerFile`. */
  credentials: '/var/run/secrets/farebox/credentials',
  /** Keys by which claims of a tier are signed: one file for each, by the key's id. */
  claimKeys: '/var/run/secrets/farebox/claim-keys',
} as const

/** Keys of the config map that carries a budget's config. */
export const CONFIG_KEYS = { config: 'config.json', trust: 'ca.crt' } as const

/** The secret of a namespace that the operator writes, and its keys. */
export const RUNTIME_SECRET = 'farebox-runtime'
export const RUNTIME_KEYS = {
  /** URL of the store, user and password in it. */
  store: 'store',
  /** 32 bytes in base64 by which the sidecars of the namespace hash ids. */
  identityKey: 'identity-key',
  /** Certificates in PEM of which one signed the store's. Not there: a public authority did, or the store has none. */
  storeCa: 'store-ca.crt',
} as const

/** In a budget's own secret, beside the URL of its store: what `RUNTIME_KEYS.storeCa` is in ours. */
export const OWN_STORE_CA_KEY = 'ca.crt'

export const PORTS = {
  /** Of the sidecar, on loopback. */
  data: 4180,
  /** Of the sidecar, pod-wide: metrics and health. */
  admin: 4181,
  /** Of the operator: admission, by https. 10250 is open from the control plane to nodes on managed clusters. */
  webhook: 10_250,
  /** Of the operator: config stream and reports, by https. */
  delivery: 9444,
  /** Of the operator: metrics and health. */
  operatorAdmin: 8080,
} as const

/** Audience of the tokens by which sidecars and operator replicas speak to the delivery listener. */
export const TOKEN_AUDIENCE = 'farebox.dev/delivery'
export const TOKEN_LIFE_S = 3_600

/** The file with the value of an upstream's header: `openai.x-portkey-api-key`. No upstream is called so: their names have no dot. */
export function headerFile(upstream: string, header: string): string {
  return `${upstream}.${header}`
}

/** What an app's container gets for a key when the sidecar holds the real one. No provider takes it. */
export const WORTHLESS_KEY = 'farebox-holds-the-key'

/** A budget's name may be as long as a config map's: a long one is cut, and told apart by its hash. */
export const CONFIG_MAP_PREFIX = 'farebox-config-'

/** The operator's environment, read and checked once at start. */
import { addressSchema } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { PORTS } from '@farebox/crds/cluster.ts'
import { LEDGER_DAYS_MIN } from '@farebox/crds/ledger-page.ts'
import * as z from 'zod'
import { ResourceSettingsSchema } from './core/resources.ts'
import type { ResourceSettings } from './core/resources.ts'

const Name = z.string().regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, 'must be a Kubernetes name: lower-case letters, digits, "-" and "."')
const Listen = addressSchema(PORTS.delivery)
/** What the chart calls the Secret of its own store. */
const OWN_STORE_SECRET = 'farebox-store'
/** The chart's schema takes the same. */
const STORE_ADDRESS =
  /^rediss?:\/\/(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])(?::(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]))?$/
/** Words between commas; an empty text has none. */
const List = z.string().transform((text) =>
  text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== ''),
)
const Resources = z.string().transform((text, context) => {
  const parsed = ResourceSettingsSchema.safeParse(jsonOf(text))
  if (parsed.success) return parsed.data
  const wrong = parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`.trim()).join(', ')
  context.addIssue({ code: 'custom', message: `must be JSON of requests and limits: ${wrong}` })
  return z.NEVER
})
/** An empty text is how a chart says nothing. */
const emptyIsAbsent = (environment: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).flatMap(([name, value]) => (value === undefined || value === '' ? [] : [[name, value]])))

const SettingsSchema = z.object({
  POD_NAME: Name,
  POD_NAMESPACE: Name,
  /** Where the other replicas reach this one. */
  POD_IP: z.string().min(1),
  SERVICE_ACCOUNT: Name,
  FAREBOX_SIDECAR_IMAGE: z.string().min(1),
  FAREBOX_SIDECAR_PULL_POLICY: z.enum(['Always', 'IfNotPresent', 'Never']).default('IfNotPresent'),
  FAREBOX_SIDECAR_RESOURCES: Resources.prefault('{"limits":{"memory":"256Mi"}}'),
  FAREBOX_PULL_SECRETS: List.prefault(''),
  /** Whether pods that came without the sidecar that their budget requires are evicted. */
  FAREBOX_EVICT_MISSED: z.enum(['true', 'false']).default('false'),
  /** How long sidecars keep entries of the ledger; absent: for good. They take no less. */
  FAREBOX_SIDECAR_LEDGER_DAYS: z.coerce
    .number('must be a number of days')
    .int('must be a whole number of days')
    .min(LEDGER_DAYS_MIN, `must be at least ${LEDGER_DAYS_MIN} days`)
    .optional(),
  /** Where sidecars reach any replica: `https://farebox-operator.farebox.svc:9444`. */
  FAREBOX_DELIVERY_URL: z.url({ protocol: /^https$/, error: 'must be an https URL' }),
  FAREBOX_WEBHOOK_NAME: Name,
  FAREBOX_TLS_SECRET: Name.default('farebox-tls'),
  /** `Own`: we are our own CA. `Given`: the Secret is written by somebody else. */
  FAREBOX_TLS_MODE: z.enum(['Own', 'Given']).default('Own'),
  /** Names that the certificate is for, the Service's first. */
  FAREBOX_TLS_NAMES: List.refine((names) => names.length > 0, 'must name at least one host'),
  FAREBOX_WEBHOOK_LISTEN: Listen.prefault(`:${PORTS.webhook}`),
  FAREBOX_DELIVERY_LISTEN: Listen.prefault(`:${PORTS.delivery}`),
  FAREBOX_ADMIN_LISTEN: Listen.prefault(`:${PORTS.operatorAdmin}`),
  /** The store of all budgets that name none of their own; absent: there is none. */
  FAREBOX_STORE_ADDRESS: z
    .string()
    .refine(
      (text) => STORE_ADDRESS.test(text) && URL.canParse(text),
      'must be redis://HOST:PORT or rediss://HOST:PORT of one server, without a user',
    )
    .optional(),
  /**
   * `Own`: it came with the chart, and is nobody else's. `Given`: it may hold users of others, and run their scripts. Absent, as with a chart of
   * an earlier version: by the name of its Secret.
   */
  FAREBOX_STORE_MODE: z.enum(['Own', 'Given']).optional(),
  FAREBOX_STORE_SECRET: Name.default(OWN_STORE_SECRET),
  /** A file with the certificates, as PEM, of which one signed the store's; handed on to sidecars. No file: the system's authorities. */
  FAREBOX_STORE_CA: z.string().min(1).optional(),
  /** What of that store outlives its pod. */
  FAREBOX_STORE_KEEPS: z.enum(['Everything', 'Nothing']).default('Everything'),
  /** A projected token of our service account, by which replicas speak to the leader. */
  FAREBOX_TOKEN: z.string().min(1).default('/var/run/secrets/farebox/token/token'),
  /** After a signal: how long this replica still answers, in ms, until nobody is sent to it any more. */
  FAREBOX_LEAVE: z.coerce.number('must be ms').int('must be whole ms').min(0).max(60_000).default(5_000),
  FAREBOX_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  FAREBOX_SIDECAR_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
})

export interface Settings {
  readonly pod: { readonly name: string; readonly namespace: string; readonly ip: string; readonly serviceAccount: string }
  readonly sidecar: {
    readonly image: string
    readonly pullPolicy: 'Always' | 'IfNotPresent' | 'Never'
    readonly resources: ResourceSettings
    readonly pullSecrets: readonly string[]
    readonly logLevel: string
    /** Null: for good. */
    readonly ledgerDays: number | null
  }
  readonly deliveryUrl: string
  readonly webhookName: string
  readonly evictsMissed: boolean
  readonly tls: { readonly secret: string; readonly mode: 'Own' | 'Given'; readonly names: readonly [string, ...string[]] }
  readonly listen: { readonly webhook: Address; readonly delivery: Address; readonly admin: Address }
  readonly store: {
    readonly address: string | null
    readonly mode: 'Own' | 'Given'
    readonly secret: string
    readonly caFile: string | null
    readonly isEphemeral: boolean
  }
  readonly tokenFile: string
  readonly leaveMs: number
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent'
}

/** Throws an `Error` whose message names each variable at fault and what it must be. */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): Settings {
  const parsed = SettingsSchema.safeParse(emptyIsAbsent(environment))
  if (!parsed.success) throw new Error(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '))
  const read = parsed.data
  const [name, ...names] = read.FAREBOX_TLS_NAMES
  if (name === undefined) throw new Error('FAREBOX_TLS_NAMES: must name at least one host')
  return {
    pod: { name: read.POD_NAME, namespace: read.POD_NAMESPACE, ip: read.POD_IP, serviceAccount: read.SERVICE_ACCOUNT },
    sidecar: {
      image: read.FAREBOX_SIDECAR_IMAGE,
      pullPolicy: read.FAREBOX_SIDECAR_PULL_POLICY,
      resources: read.FAREBOX_SIDECAR_RESOURCES,
      pullSecrets: read.FAREBOX_PULL_SECRETS,
      logLevel: read.FAREBOX_SIDECAR_LOG_LEVEL,
      ledgerDays: read.FAREBOX_SIDECAR_LEDGER_DAYS ?? null,
    },
    deliveryUrl: read.FAREBOX_DELIVERY_URL,
    webhookName: read.FAREBOX_WEBHOOK_NAME,
    evictsMissed: read.FAREBOX_EVICT_MISSED === 'true',
    tls: { secret: read.FAREBOX_TLS_SECRET, mode: read.FAREBOX_TLS_MODE, names: [name, ...names] },
    listen: { webhook: read.FAREBOX_WEBHOOK_LISTEN, delivery: read.FAREBOX_DELIVERY_LISTEN, admin: read.FAREBOX_ADMIN_LISTEN },
    store: {
      address: read.FAREBOX_STORE_ADDRESS ?? null,
      mode: read.FAREBOX_STORE_MODE ?? (read.FAREBOX_STORE_SECRET === OWN_STORE_SECRET ? 'Own' : 'Given'),
      secret: read.FAREBOX_STORE_SECRET,
      caFile: read.FAREBOX_STORE_CA ?? null,
      isEphemeral: read.FAREBOX_STORE_KEEPS === 'Nothing',
    },
    tokenFile: read.FAREBOX_TOKEN,
    leaveMs: read.FAREBOX_LEAVE,
    logLevel: read.FAREBOX_LOG_LEVEL,
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** The sidecar's environment, read and checked once at start. */
import { addressSchema } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { PORTS } from '@farebox/crds/cluster.ts'
import { DAY_MS } from '@farebox/crds/duration.ts'
import * as z from 'zod'
import { BODY_BYTES_MAX } from './core/request.ts'
import { readNamed } from './named-file.ts'
import { isStoreUrl, STORE_URL_FORM } from './store/redis/store-url.ts'
import { readStoreFile } from './store/store-files.ts'
import { LEDGER_LIFE_MS_MIN } from './store/store.ts'

const Listen = addressSchema(PORTS.data)
const IDENTITY_KEY_BYTES = 32
/** As long as a pod has by default, with time left for what follows. */
const DRAIN_MS = 25_000

const SettingsSchema = z.object({
  /** Path of the compiled config; watched. */
  FAREBOX_CONFIG: z.string().min(1),
  /** Directory of the embedded store, its identity key and the last config in force; must outlive the process. */
  FAREBOX_DATA: z.string().min(1),
  /** The store that replicas share: `redis://` and the like; absent: the embedded one, of this process alone. */
  FAREBOX_STORE: z.string().refine(isStoreUrl, `must be ${STORE_URL_FORM}`).optional(),
  /** A file with such a URL, which holds a password: read again whenever the store is looked for. */
  FAREBOX_STORE_FILE: z.string().min(1).optional(),
  /** A file with the certificates, as PEM, of which one signed the store's; read each time the store is looked for. No file: the system's. */
  FAREBOX_STORE_CA: z.string().min(1).optional(),
  /** A file with the key, 32 bytes in base64, by which ids are hashed for a shared store that has none yet. */
  FAREBOX_IDENTITY_KEY_FILE: z.string().min(1).optional(),
  /** Separates the books of several owners in one store. */
  FAREBOX_NAMESPACE: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,128}$/, 'must be 1 to 128 letters, digits, dots, dashes and underscores')
    .default('default'),
  /** How long ledger entries are kept; absent: for good. What is dropped is carried over, so that balances stay the sum of their entries. */
  FAREBOX_LEDGER_DAYS: z.coerce
    .number('must be a number of days')
    .int('must be a whole number of days')
    .min(LEDGER_LIFE_MS_MIN / DAY_MS, `must be at least ${LEDGER_LIFE_MS_MIN / DAY_MS} days`)
    .optional(),
  /** Origin of the operator's delivery listener; absent: there is none. */
  FAREBOX_OPERATOR: z
    .string()
    .regex(/^https:\/\/[^/?#@\s]+\/?$/, 'must be https://HOST:PORT')
    .optional(),
  /** A file with the certificates, as PEM, of which one signed the operator's; read for each connection. */
  FAREBOX_OPERATOR_CA: z.string().min(1).optional(),
  /** A file with the token that tells the operator which pod this is; read for each connection. */
  FAREBOX_TOKEN: z.string().min(1).optional(),
  /** A folder with a file for each upstream whose key is held here, by the upstream's name; followed. */
  FAREBOX_CREDENTIALS: z.string().min(1).optional(),
  /** A folder with a file for each key by which claims of a tier are signed, by the key's id; followed. */
  FAREBOX_CLAIM_KEYS: z.string().min(1).optional(),
  /** How long calls under way have to end after a signal, in ms. */
  FAREBOX_DRAIN: z.coerce
    .number('must be a number of milliseconds')
    .int('must be a whole number of milliseconds')
    .min(0, 'must be 0 or more')
    .max(3_600_000, 'must be at most 3600000')
    .default(DRAIN_MS),
  /** Bytes of bodies that are held at a time; absent: a share of the memory that the process may have. */
  FAREBOX_BODY_ROOM: z.coerce
    .number('must be a number of bytes')
    .int('must be a whole number of bytes')
    .min(BODY_BYTES_MAX, `must be at least ${BODY_BYTES_MAX}, the most that one body may have`)
    .optional(),
  /** Name of the pod, for logs. */
  FAREBOX_POD: z.string().min(1).optional(),
  FAREBOX_LISTEN: Listen.prefault(`127.0.0.1:${PORTS.data}`),
  FAREBOX_ADMIN: Listen.prefault(`127.0.0.1:${PORTS.admin}`),
  FAREBOX_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  /** File that logs go to; absent: standard error. */
  FAREBOX_LOG: z.string().min(1).optional(),
})

export interface Settings {
  readonly configFile: string
  readonly dataDir: string
  /** Null: embedded. */
  readonly storeUrl: string | null
  /** File that `storeUrl` was read from; null: `FAREBOX_STORE` itself. */
  readonly storeFile: string | null
  /** Whom to trust for a store with TLS, if the file is there; null: the system's authorities. */
  readonly storeCaFile: string | null
  /** To be offered to a shared store; null: one is drawn. */
  readonly identityKey: Buffer | null
  readonly namespace: string
  /** Of ledger entries; undefined: kept for good. */
  readonly ledgerLifeMs: number | undefined
  /** Null: nobody delivers configs or hears reports. */
  readonly operator: OperatorSettings | null
  readonly credentialsDir: string | null
  readonly claimKeysDir: string | null
  readonly drainMs: number
  /** Of bodies that are held at a time; undefined: a share of the memory. */
  readonly bodyRoomBytes: number | undefined
  readonly pod: string | null
  readonly listen: Address
  readonly admin: Address
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  readonly logFile: string | null
}

export interface OperatorSettings {
  readonly url: string
  readonly caFile: string
  readonly tokenFile: string
}

/** Throws an `Error` whose message names each variable at fault and what it must be. */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): Settings {
  const parsed = SettingsSchema.safeParse(environment)
  if (!parsed.success) throw new Error(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '))
  const read = parsed.data
  if (read.FAREBOX_STORE !== undefined && read.FAREBOX_STORE_FILE !== undefined)
    throw new Error('FAREBOX_STORE_FILE: must not be there beside FAREBOX_STORE')
  const storeFile = read.FAREBOX_STORE_FILE ?? null
  return {
    configFile: read.FAREBOX_CONFIG,
    dataDir: read.FAREBOX_DATA,
    storeUrl: storeFile === null ? (read.FAREBOX_STORE ?? null) : readStoreFile(storeFile),
    storeFile,
    storeCaFile: read.FAREBOX_STORE_CA ?? null,
    identityKey: read.FAREBOX_IDENTITY_KEY_FILE === undefined ? null : readIdentityKey(read.FAREBOX_IDENTITY_KEY_FILE),
    namespace: read.FAREBOX_NAMESPACE,
    ledgerLifeMs: read.FAREBOX_LEDGER_DAYS === undefined ? undefined : read.FAREBOX_LEDGER_DAYS * DAY_MS,
    operator: operatorOf(read),
    credentialsDir: read.FAREBOX_CREDENTIALS ?? null,
    claimKeysDir: read.FAREBOX_CLAIM_KEYS ?? null,
    drainMs: read.FAREBOX_DRAIN,
    bodyRoomBytes: read.FAREBOX_BODY_ROOM,
    pod: read.FAREBOX_POD ?? null,
    listen: read.FAREBOX_LISTEN,
    admin: read.FAREBOX_ADMIN,
    logLevel: read.FAREBOX_LOG_LEVEL,
    logFile: read.FAREBOX_LOG ?? null,
  }
}

function operatorOf(read: z.infer<typeof SettingsSchema>): OperatorSettings | null {
  const { FAREBOX_OPERATOR: url, FAREBOX_OPERATOR_CA: caFile, FAREBOX_TOKEN: tokenFile } = read
  if (url === undefined) return null
  if (caFile === undefined) throw new Error('FAREBOX_OPERATOR_CA: must be there beside FAREBOX_OPERATOR')
  if (tokenFile === undefined) throw new Error('FAREBOX_TOKEN: must be there beside FAREBOX_OPERATOR')
  return { url, caFile, tokenFile }
}

function readIdentityKey(path: string): Buffer {
  const text = readNamed('FAREBOX_IDENTITY_KEY_FILE', path).trim()
  const key = Buffer.from(text, 'base64')
  if (key.length !== IDENTITY_KEY_BYTES || key.toString('base64').replace(/=+$/, '') !== text.replace(/=+$/, ''))
    throw new Error(`FAREBOX_IDENTITY_KEY_FILE: ${path} must hold ${IDENTITY_KEY_BYTES} bytes in base64`)
  return key
}

/** The sidecar's environment, read and checked once at start. */
import * as z from 'zod'
import { LEDGER_LIFE_MS_MIN } from './store/store.ts'

const DAY_MS = 24 * 3_600_000

const Address = z
  .string()
  .regex(/^[^\s:]+:\d{1,5}$/, 'must be HOST:PORT, such as 127.0.0.1:4180')
  .transform((text) => {
    const [host = '', port = ''] = text.split(':')
    return { host, port: Number(port) }
  })

const SettingsSchema = z.object({
  /** Path of the compiled config; watched. */
  FAREBOX_CONFIG: z.string().min(1),
  /** Directory of the embedded store and its identity key; must outlive the process. */
  FAREBOX_DATA: z.string().min(1),
  /** The store that replicas share: `redis://` and the like; absent: the embedded one, of this process alone. */
  FAREBOX_STORE: z
    .string()
    .regex(/^rediss?(\+cluster)?:\/\/\S+$/, 'must be redis://HOST:PORT, rediss://, redis+cluster:// or rediss+cluster://')
    .optional(),
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
  FAREBOX_LISTEN: Address.prefault('127.0.0.1:4180'),
  FAREBOX_ADMIN: Address.prefault('127.0.0.1:4181'),
  FAREBOX_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  /** File that logs go to; absent: standard error. */
  FAREBOX_LOG: z.string().min(1).optional(),
})

export interface Settings {
  readonly configFile: string
  readonly dataDir: string
  /** Null: embedded. */
  readonly storeUrl: string | null
  readonly namespace: string
  /** Of ledger entries; undefined: kept for good. */
  readonly ledgerLifeMs: number | undefined
  readonly listen: { readonly host: string; readonly port: number }
  readonly admin: { readonly host: string; readonly port: number }
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  readonly logFile: string | null
}

/** Throws an `Error` whose message names each variable at fault and what it must be. */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): Settings {
  const parsed = SettingsSchema.safeParse(environment)
  if (!parsed.success) throw new Error(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '))
  const read = parsed.data
  return {
    configFile: read.FAREBOX_CONFIG,
    dataDir: read.FAREBOX_DATA,
    storeUrl: read.FAREBOX_STORE ?? null,
    namespace: read.FAREBOX_NAMESPACE,
    ledgerLifeMs: read.FAREBOX_LEDGER_DAYS === undefined ? undefined : read.FAREBOX_LEDGER_DAYS * DAY_MS,
    listen: read.FAREBOX_LISTEN,
    admin: read.FAREBOX_ADMIN,
    logLevel: read.FAREBOX_LOG_LEVEL,
    logFile: read.FAREBOX_LOG ?? null,
  }
}

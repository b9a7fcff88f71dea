/**
 * Keys of providers that this sidecar holds, so that the app need not have them: one file for each upstream, by its name, followed
 * since a key may be rotated. They are in memory and in requests to their upstream, and nowhere else: not in logs, not in errors. So are
 * values of further headers, such as the key of a gateway.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { headerFile, WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import type { Upstream } from '@farebox/crds/sidecar-config.ts'
import type { Log } from '../telemetry/log.ts'

const LOOK_MS = 2_000
const BEARER = /^Bearer +/i
/** Whoever echoes a value may leave its scheme out. */
const SCHEME = /^[A-Za-z]+ +/
const KEY_LENGTH_MAX = 8_192
/** What a header can carry, and a key consists of. */
const KEY = /^[!-~]+$/
/** A header beside it may have a scheme in front of its key. */
const HEADER_VALUE = /^[ -~]+$/
/** A shorter value is no secret, and may stand in any answer for something else. */
const SECRET_LENGTH_MIN = 8

/** There is a key to be put in, and it cannot be read. */
export const UNUSABLE = Symbol('unusable')
/** Null: the app's own goes on. */
export type HeldKey = string | null | typeof UNUSABLE

/** What each call of an upstream has, whatever the app sends by these names. */
export interface UpstreamHeaders {
  /** A raw list, with names in lower case. */
  readonly raw: readonly string[]
  /** Of their values, what nobody else is to see. */
  readonly secrets: readonly string[]
}
export const NO_HEADERS: UpstreamHeaders = { raw: [], secrets: [] }

export class Credentials {
  readonly #folder: string | null
  readonly #log: Pick<Log, 'info' | 'error'>
  /** Of each file that was seen once. An empty text: it cannot be used. */
  readonly #keys = new Map<string, string>()
  readonly #onChange: () => void
  #timer: NodeJS.Timeout | null = null

  /** `folder` null: no keys are held here. */
  constructor(folder: string | null, log: Pick<Log, 'info' | 'error'>, onChange: () => void = () => undefined) {
    this.#folder = folder
    this.#log = log
    this.#onChange = onChange
    this.#look()
  }

  start(): void {
    if (this.#folder !== null) this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }
  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /**
   * A pod keeps what it started with. One from before its key was to be held has no file for it, and its app has the key; in one from
   * before its key was to pass, the app has none, and still sends what it was given in its place.
   */
  keyFor({ name, credential }: Pick<Upstream, 'name' | 'credential'>, sent: IncomingHttpHeaders, path = ''): HeldKey {
    if (credential !== 'Held' && (this.#keys.size === 0 || !isWorthless(sent, path))) return null
    const key = this.#keys.get(name)
    return key === undefined ? null : key === '' ? UNUSABLE : key
  }

  /** As with keys, one whose file a pod never had is left to the app. */
  headersFor({ name: upstream, headers }: Pick<Upstream, 'name' | 'headers'>): UpstreamHeaders | typeof UNUSABLE {
    if (headers === undefined) return NO_HEADERS
    const raw: string[] = []
    const secrets: string[] = []
    for (const { name, value } of headers) {
      const sent = value ?? this.#keys.get(headerFile(upstream, name))
      if (sent === undefined) continue
      if (sent === '') return UNUSABLE
      raw.push(name, sent)
      const secret = sent.replace(SCHEME, '')
      if (value === undefined && secret.length >= SECRET_LENGTH_MIN) secrets.push(secret)
    }
    return { raw, secrets }
  }

  /** Whether all is here by which an upstream is spoken to that the app did not ask, and so gave nothing for. */
  letIn(upstream: Pick<Upstream, 'name' | 'credential' | 'headers'>, sent: IncomingHttpHeaders): boolean {
    const set = this.headersFor(upstream)
    const isWhole = set !== UNUSABLE && set.raw.length === 2 * (upstream.headers?.length ?? 0)
    return isWhole && typeof this.keyFor(upstream, sent) === 'string'
  }

  /** Those whose key is here. */
  heldFor(upstreams: readonly Pick<Upstream, 'name'>[]): readonly string[] {
    return upstreams.filter(({ name }) => (this.#keys.get(name) ?? '') !== '').map(({ name }) => name)
  }

  #look(): void {
    if (this.#folder === null) return
    let names: readonly string[] = []
    try {
      names = readdirSync(this.#folder).filter((name) => !name.startsWith('.'))
    } catch {
      // The folder is gone, or was never there: so are its files.
    }
    let hasChanged = false
    for (const name of new Set([...names, ...this.#keys.keys()])) {
      const [upstream = name, header] = name.split('.', 2)
      const key = readKey(join(this.#folder, name), header === undefined ? KEY : HEADER_VALUE)
      const before = this.#keys.get(name)
      if (key === before) continue
      this.#keys.set(name, key)
      hasChanged = true
      if (key === '')
        this.#log.error({ upstream, header }, 'the key that is held for an upstream cannot be read or used: its calls are refused')
      else
        this.#log.info(
          { upstream, header },
          before === undefined ? 'the key of an upstream is held here' : 'the key of an upstream was replaced',
        )
    }
    if (hasChanged) this.#onChange()
  }
}

/** SDKs of one provider send their key by this header, those of another by that; Google's may be in the query. */
function isWorthless(sent: IncomingHttpHeaders, path: string): boolean {
  const { authorization = '', 'api-key': apiKey, 'x-api-key': xApiKey, 'x-goog-api-key': googleKey } = sent
  const query = path.indexOf('?')
  const inQuery = query < 0 ? null : new URLSearchParams(path.slice(query)).get('key')
  return [authorization.replace(BEARER, ''), apiKey, xApiKey, googleKey, inQuery].includes(WORTHLESS_KEY)
}

/** Empty where there is none that could be sent. */
function readKey(path: string, pattern: RegExp): string {
  try {
    const key = readFileSync(path, 'utf8').trim()
    return key.length <= KEY_LENGTH_MAX && pattern.test(key) ? key : ''
  } catch {
    return ''
  }
}

/**
 * Keys of providers that this sidecar holds, so that the app need not have them: one file for each upstream, by its name, followed
 * since a key may be rotated. They are in memory and in requests to their upstream, and nowhere else: not in logs, not in errors.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'
import type { Upstream } from '@farebox/crds/sidecar-config.ts'
import type { Log } from '../telemetry/log.ts'

const LOOK_MS = 2_000
const BEARER = /^Bearer +/i
const KEY_LENGTH_MAX = 8_192
/** What a header can carry, and a key consists of. */
const KEY = /^[!-~]+$/

/** There is a key to be put in, and it cannot be read. */
export const UNUSABLE = Symbol('unusable')
/** Null: the app's own goes on. */
export type HeldKey = string | null | typeof UNUSABLE

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
      const key = readKey(join(this.#folder, name))
      const before = this.#keys.get(name)
      if (key === before) continue
      this.#keys.set(name, key)
      hasChanged = true
      if (key === '')
        this.#log.error({ upstream: name }, 'the key that is held for an upstream cannot be read or used: its calls are refused')
      else
        this.#log.info(
          { upstream: name },
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
function readKey(path: string): string {
  try {
    const key = readFileSync(path, 'utf8').trim()
    return key.length <= KEY_LENGTH_MAX && KEY.test(key) ? key : ''
  } catch {
    return ''
  }
}

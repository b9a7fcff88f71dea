/**
 * Which config is in force. It comes three ways: mounted, by the operator's stream, and as the last good one that an earlier run
 * of this sidecar kept. The newest valid one wins, whichever way it came; one that is invalid never takes a valid one's place.
 */
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { messageOf } from '../error-text.ts'

export type ConfigSource = 'mount' | 'stream' | 'lastGood'

/** Names a config. */
export interface ConfigId {
  /** `namespace/name`. */
  readonly budget: string
  readonly version: number
  readonly hash: string
}

/** A config that was checked. `later`: the fields in it, of a later version, that this one does not know and passes over. */
export interface ReadConfig {
  readonly config: SidecarConfig
  readonly later: readonly string[]
}

/** A config that was refused, as far as it says what it is. */
export interface RefusedConfig {
  readonly version: number | null
  readonly hash: string | null
  readonly reason: string
}

export interface ConfigListener {
  /** May throw for what cannot be used after all. */
  accepted(read: ReadConfig, source: ConfigSource): void
  /** Told once, however often and whichever ways it comes. */
  rejected(refused: RefusedConfig): void
}

export type Precedence = 'taken' | 'same' | 'older'
/** `unusable`: it was checked, and still could not be put in force. */
export type Offered = Precedence | 'unusable'

/**
 * Versions count within a budget. Another budget's config is the operator's word on who governs this pod: its stream alone may
 * change that, and the last good config remembers it. Without an operator whoever mounts the file decides.
 */
export function precedence(
  inForce: (ConfigId & { readonly source: ConfigSource }) | null,
  offered: ConfigId & { readonly source: ConfigSource },
  hasOperator: boolean,
): Precedence {
  if (inForce === null) return 'taken'
  if (inForce.budget !== offered.budget) {
    if (hasOperator) return offered.source === 'stream' ? 'taken' : 'older'
    return inForce.source === 'lastGood' || offered.version >= inForce.version ? 'taken' : 'older'
  }
  if (offered.version !== inForce.version) return offered.version > inForce.version ? 'taken' : 'older'
  if (offered.hash === inForce.hash) return 'same'
  return offered.source === 'stream' || inForce.source !== 'stream' ? 'taken' : 'older'
}

export class ConfigInForce {
  readonly #listener: ConfigListener
  readonly #hasOperator: boolean
  #inForce: (ConfigId & { readonly source: ConfigSource }) | null = null
  #refused: RefusedConfig | null = null

  constructor(listener: ConfigListener, options: { readonly hasOperator: boolean }) {
    this.#listener = listener
    this.#hasOperator = options.hasOperator
  }

  get inForce(): (ConfigId & { readonly source: ConfigSource }) | null {
    return this.#inForce
  }
  /** The last one refused since the one in force. */
  get refused(): RefusedConfig | null {
    return this.#refused
  }

  /** Never throws: what comes must not end the sidecar, nor seem to be in force where it is not. */
  offer(read: ReadConfig, source: ConfigSource): Offered {
    const { config } = read
    const { version, hash } = config
    const offered = { budget: `${config.namespace}/${config.budget}`, version, hash, source }
    const outcome = precedence(this.#inForce, offered, this.#hasOperator)
    if (outcome === 'taken') {
      const before = { inForce: this.#inForce, refused: this.#refused }
      this.#inForce = offered
      this.#refused = null
      try {
        this.#listener.accepted(read, source)
      } catch (error) {
        this.#inForce = before.inForce
        this.#refused = before.refused
        this.refuse({ version, hash, reason: `cannot be put in force: ${messageOf(error)}` })
        return 'unusable'
      }
    } else if (outcome === 'same' && source !== 'lastGood' && this.#inForce?.source !== 'stream') this.#inForce = offered
    return outcome
  }

  refuse(refused: RefusedConfig): void {
    const known = this.#refused
    if (known !== null && known.reason === refused.reason && known.hash === refused.hash && known.version === refused.version) return
    this.#refused = refused
    this.#listener.rejected(refused)
  }
}

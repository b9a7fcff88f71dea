/**
 * Users of the store are kept apart by their keys, not by what they cost: a script of one that does not end holds all others up. Those of
 * sidecars end in milliseconds; one that runs for so long that the store says it is busy is ended.
 */
import type { Redis } from 'ioredis'
import { storeConnection } from './store-connection.ts'
import type { StoreAddress } from './store-connection.ts'

const LOOK_EVERY_MS = 2_000

export interface StuckScriptsOptions extends StoreAddress {
  readonly adminPassword: string
  /** One was ended. */
  readonly onEnded: () => void
  /** One could not be, since it has written: until it ends, or the store is started anew, nobody is served. Told once. */
  readonly onUnending: (error: Error) => void
}

/** Looks until it is closed. Where the store cannot be reached it is silent: others say so. */
export class StuckScripts {
  readonly #options: StuckScriptsOptions
  /** Its own: one that asks how the store is before it is used is not let in while a script runs. */
  readonly #client: Redis
  readonly #timer: NodeJS.Timeout
  #isLooking = false
  #wasTold = false

  constructor(options: StuckScriptsOptions) {
    this.#options = options
    this.#client = storeConnection(options, options.adminPassword, false)
    // Whoever sets the users says that the store cannot be reached; this one tries again by itself.
    this.#client.on('error', () => undefined)
    this.#client.connect().catch(() => undefined)
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY_MS)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#client.disconnect()
  }

  async #look(): Promise<void> {
    if (this.#isLooking || this.#client.status !== 'ready') return
    this.#isLooking = true
    try {
      await this.#client.ping()
      this.#wasTold = false
    } catch (error) {
      if (isAnswer(error, 'BUSY')) await this.#end()
    } finally {
      this.#isLooking = false
    }
  }

  async #end(): Promise<void> {
    try {
      await this.#client.call('SCRIPT', 'KILL')
      this.#options.onEnded()
    } catch (error) {
      if (this.#wasTold || !isAnswer(error, 'UNKILLABLE')) return
      this.#wasTold = true
      this.#options.onUnending(error)
    }
  }
}

function isAnswer(error: unknown, code: string): error is Error {
  return error instanceof Error && error.message.startsWith(`${code} `)
}

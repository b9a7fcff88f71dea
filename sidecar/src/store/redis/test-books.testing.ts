/** A server with books of its own for each test, and a clock that the test sets. */
import { Redis } from 'ioredis'
import { START_MS } from '../steps.testing.ts'
import type { BudgetStore } from '../store.ts'
import { tagPrefix } from './keys.ts'
import { openRedisStore } from './redis.ts'

export interface Books {
  readonly store: BudgetStore
  readonly clock: { ms: number }
  /** What a key of the first tag is called in full. */
  readonly key: (name: string) => string
}

interface Server {
  readonly url: string
  stop(): Promise<void>
}

export class TestBooks {
  readonly admin: Redis
  readonly #server: Server
  #namespaces = 0

  /** Owns the server. */
  constructor(server: Server) {
    this.#server = server
    this.admin = new Redis(server.url)
  }

  async run(options: { readonly tags?: number; readonly ledgerLifeMs?: number }, test: (books: Books) => Promise<void>): Promise<void> {
    const clock = { ms: START_MS }
    const namespace = `books-${++this.#namespaces}`
    const store = await openRedisStore({ url: this.#server.url, namespace, nowMs: () => clock.ms, answerMsMax: 5_000, ...options })
    try {
      await test({ store, clock, key: (name) => `${tagPrefix(namespace, 0)}${name}` })
    } finally {
      await store.close()
    }
  }

  async stop(): Promise<void> {
    this.admin.disconnect()
    await this.#server.stop()
  }
}

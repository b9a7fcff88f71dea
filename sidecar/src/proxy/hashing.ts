/** The hashes of ids, by the key of the store. A shared store has the key; before it was reached for the first time there is none. */
import { IdHasher } from '../core/identify.ts'
import { KeyedHash } from '../core/keyed-hash.ts'
import { StoreError } from '../store/store.ts'

export class Hashing {
  readonly #secret: () => Buffer | null
  #made: { readonly secret: Buffer; readonly hasher: IdHasher; readonly chainKey: KeyedHash } | null = null

  constructor(secret: () => Buffer | null) {
    this.#secret = secret
  }

  get isPossible(): boolean {
    return this.#secret() !== null
  }
  /** This and the next throw `StoreError` while there is no key. */
  get hasher(): IdHasher {
    return this.#current().hasher
  }
  get chainKey(): KeyedHash {
    return this.#current().chainKey
  }

  #current(): { readonly hasher: IdHasher; readonly chainKey: KeyedHash } {
    const secret = this.#secret()
    if (secret === null) throw new StoreError('away', 'ids cannot be hashed before the shared store was reached once')
    if (this.#made?.secret !== secret) {
      const chainKey = new KeyedHash(secret)
      this.#made = { secret, chainKey, hasher: new IdHasher(chainKey) }
    }
    return this.#made
  }
}

/** What every turn needs: the policy in force and the parts that outlive a turn. Built by `main.ts`, passed along. */
import type { IncomingMessage } from 'node:http'
import type { PriceList } from '@farebox/crds/prices.ts'
import { readContract } from '@farebox/crds/sidecar-config.ts'
import type { Contract, SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { LRUCache } from 'lru-cache'
import type { ZodError } from 'zod'
import type { IdHasher } from '../core/identify.ts'
import type { KeyedHash } from '../core/keyed-hash.ts'
import type { LimitField } from '../core/output-limit.ts'
import { limitsOf, termsOf } from '../core/terms.ts'
import type { Terms, WorkloadLimit } from '../core/terms.ts'
import type { FactorTable } from '../core/token-factor.ts'
import type { BudgetStore } from '../store/store.ts'
import type { StoreStanding } from '../store/store-standing.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Staleness } from '../delivery/staleness.ts'
import type { AlertFeed } from './alert-feed.ts'
import type { BodyRoom } from './body-room.ts'
import type { Claims } from './claims.ts'
import type { Credentials } from './credentials.ts'
import { ownHeadersOf } from './headers.ts'
import type { HoldKeeper } from './hold-keeper.ts'
import type { MoneyQueue } from './money-queue.ts'
import type { Offers } from './offers.ts'
import type { OutcomeWatch } from './outcome-watch.ts'
import type { ServedTiers } from './served-tiers.ts'
import type { SideLoops } from './side-loops.ts'
import type { Summariser } from './summariser.ts'
import type { UnderWay } from './under-way.ts'
import type { UpstreamPool } from './upstream.ts'
import type { UsageRefusals } from './usage-refusals.ts'
import type { UserBook } from './user-book.ts'

export interface Gateway {
  /** Null until the first valid config came. */
  policy(): Policy | null
  /** The last config refused since the one in force. */
  rejectedConfig(): { readonly reason: string; readonly at: string } | null
  readonly store: BudgetStore
  /** Other sidecars work on it too. */
  readonly storeIsShared: boolean
  readonly storeStanding: () => StoreStanding
  readonly upstreams: UpstreamPool
  readonly bodies: BodyRoom
  /** False before the shared store has told the key by which all who share it hash. */
  canHashIds(): boolean
  /** This and the next throw `StoreError` until then. */
  readonly hasher: IdHasher
  /** Of the prefix chain's digests. */
  readonly chainKey: KeyedHash
  readonly staleness: Staleness
  readonly credentials: Credentials
  readonly claims: Claims
  readonly tally: Tally
  readonly contracts: ContractShelf
  readonly queue: MoneyQueue
  readonly holds: HoldKeeper
  readonly factors: FactorTable
  readonly outcomes: OutcomeWatch
  readonly users: UserBook
  readonly offers: Offers
  readonly sideLoops: SideLoops
  readonly summariser: Summariser
  readonly underWay: UnderWay
  readonly alerts: AlertFeed
  readonly metrics: Metrics
  readonly log: Log
  readonly nowMs: () => number
  /** A fresh random id: 32 hex digits. */
  readonly newId: () => string
  /** Where `stream_options` were refused: usage is not asked for there. */
  readonly usageRefusals: UsageRefusals
  /** By model of a server (`modelKey`), the field for the bound of the output that it took after it had refused the other. */
  readonly limitFields: LRUCache<string, LimitField>
  /** In which service tiers calls were served that asked for none. */
  readonly servedTiers: ServedTiers
  /** Answers drained for clients that left, now. */
  readonly drains: { count: number }
  /** Swaps that an upstream refused, by conversation: not tried again in it. */
  readonly failedSwaps: LRUCache<string, ReadonlySet<string>>
  /** Conversations whose history the provider refused as we had edited it: it goes out as it comes from then on. */
  readonly uneditable: LRUCache<string, true>
  /** Conversations in which it refused one as the app had made it, for what edits might be at fault for too: not tried again there. */
  readonly faultyUnedited: LRUCache<string, true>
  /** Conversations in which money has cut the calls of hosted tools: what was thought meanwhile is bound to other tools than the client's. */
  readonly boundsCut: LRUCache<string, true>
  /** Users whose budget of a tier and period was found used up by a call of no conversation: its alerts were told. */
  readonly exhaustedUsers: LRUCache<string, true>
  /** Requests that go on under `Observe` alone: that was told of them. */
  readonly observed: WeakSet<IncomingMessage>
  /** By model of a provider: nobody prices it, and the log has said so. */
  readonly unpriced: LRUCache<string, true>
}

/** Of the turns that this process has ended. */
export interface Tally {
  count: number
  lastMs: number | null
  /** Without a word of whose they were. */
  withoutUser: number
}

/** A config in force, with what is derived from it once. A turn keeps the policy that it began with. */
export interface Policy {
  readonly config: SidecarConfig
  readonly budgetKey: string
  readonly prices: PriceList
  readonly limits: readonly WorkloadLimit[]
  /** Request headers that are ours by this config, lower-case: never forwarded. */
  readonly ownHeaders: ReadonlySet<string>
}

export function policyOf(config: SidecarConfig, prices: PriceList): Policy {
  return {
    config,
    budgetKey: `${config.namespace}/${config.budget}`,
    prices,
    limits: limitsOf(config),
    ownHeaders: ownHeadersOf(config),
  }
}

const CONTRACTS_KEPT = 1_000

/** Contracts in use, parsed, by hash: from the config, from memory, or from the store, which keeps each as long as it is in use. */
export class ContractShelf {
  readonly #store: Pick<BudgetStore, 'putContract' | 'getContract'>
  readonly #log: Pick<Log, 'warn'>
  readonly #terms = new LRUCache<string, Terms>({ max: CONTRACTS_KEPT })
  readonly #unreadable = new LRUCache<string, true>({ max: CONTRACTS_KEPT })
  readonly #kept = new Set<string>()

  constructor(store: Pick<BudgetStore, 'putContract' | 'getContract'>, log: Pick<Log, 'warn'>) {
    this.#store = store
    this.#log = log
  }

  /** The terms of a config's contract. Puts the contract into the store the first time, before anything is pinned to it. */
  async newest(contract: Contract): Promise<Terms> {
    const known = this.#terms.get(contract.hash)
    const terms = known ?? termsOf(contract)
    if (!this.#kept.has(contract.hash)) {
      await this.#store.putContract(contract)
      this.#kept.add(contract.hash)
      this.#terms.set(contract.hash, terms)
    }
    return terms
  }

  /** The terms of a pinned contract; null when the store no longer has it, or a later version kept what this one cannot read. */
  async pinned(hash: string): Promise<Terms | null> {
    const known = this.#terms.get(hash)
    if (known !== undefined) return known
    if (this.#unreadable.has(hash)) return null
    const kept = await this.#store.getContract(hash)
    if (kept === null) return null
    const read = readContract(kept)
    if (!read.success) {
      this.#tellUnreadable(hash, read.error)
      return null
    }
    const terms = termsOf(read.data)
    this.#terms.set(hash, terms)
    return terms
  }

  /** Of each that cannot be read the log says so once: its hash is over all that is in it, so it stays as it is. */
  #tellUnreadable(hash: string, { issues: [issue] }: ZodError): void {
    if (this.#unreadable.has(hash)) return
    this.#unreadable.set(hash, true)
    const err = `${issue?.path.join('.')}: ${issue?.message}`
    this.#log.warn({ contract: hash, err }, 'a contract cannot be read; conversations pinned to it go by the newest terms of their tier')
  }
}

/** Where conversations stand, for the app API: one that the app names, or the newest of all. */
import type { Conversation } from '../core/conversation.ts'
import { LONE_PREFIX } from '../core/lone-call.ts'
import { standingOf } from '../core/standing.ts'
import type { Standing } from '../core/standing.ts'
import { balancesOf, drawsOf, sessionAccount } from '../core/terms.ts'
import type { Terms } from '../core/terms.ts'
import type { BudgetStore, ListedConversation } from '../store/store.ts'
import type { Gateway, Policy } from './gateway.ts'

/** Standings of a list that are read side by side: a store on the network answers them together. */
const READS_AT_ONCE = 32
/** That of a lone call says that it is one. */
const HASHED_ID = new RegExp(`^(${LONE_PREFIX})?[0-9a-f]{32}$`)

type Reading = Pick<Gateway, 'contracts' | 'nowMs'> & { readonly store: Pick<BudgetStore, 'listConversations' | 'read'> }

/** Newest first; without those whose contract is gone. */
export async function newestStandings(
  gateway: Reading,
  policy: Pick<Policy, 'config' | 'budgetKey'>,
  limit: number,
): Promise<readonly Standing[]> {
  const conversations = await gateway.store.listConversations({ limit, nowMs: gateway.nowMs() })
  const standings: Standing[] = []
  for (let from = 0; from < conversations.length; from += READS_AT_ONCE) {
    const batch = conversations.slice(from, from + READS_AT_ONCE).map(async (conversation) => {
      const terms = await termsFor(gateway, policy, conversation)
      return terms === null ? null : await readStanding({ gateway, policy, conversation, terms })
    })
    standings.push(...(await Promise.all(batch)).filter((one) => one !== null))
  }
  return standings
}

interface Placed {
  readonly gateway: Reading
  readonly policy: Pick<Policy, 'budgetKey'>
  readonly conversation: ListedConversation
  readonly terms: Terms
}

/** Where the conversation stands in its budgets, by what they are used now; a workload's limits are none of them. */
export async function readStanding({ gateway, policy, conversation, terms }: Placed): Promise<Standing> {
  const nowMs = gateway.nowMs()
  const draws = drawsOf({
    terms,
    conversation: conversation.id,
    session: conversation.session,
    user: conversation.user,
    budgetKey: policy.budgetKey,
    limits: [],
    nowMs,
  })
  const { accounts, conversation: now } = await gateway.store.read({
    conversation: conversation.id,
    accounts: [sessionAccount(conversation.id, conversation.session), ...draws.map((draw) => draw.account)],
    nowMs,
  })
  // As it is with these balances, where no other session or contract has begun since: a call may have ended meanwhile.
  const isSame = now?.session === conversation.session && now.contractHash === conversation.contractHash
  return standingOf(isSame ? now : conversation, terms, balancesOf(draws, accounts))
}

/** `user`: whose it is, where it is named by a `prompt_cache_key`, which many may share; as the app names them. */
interface Asked {
  readonly id: string
  readonly tier: string | null
  readonly user: string | null
}

/** By the id that the app uses, in the tier named or any allowed one (the one with the latest turn); or by its hash. */
export async function findConversation(
  gateway: Pick<Gateway, 'store' | 'hasher' | 'nowMs'>,
  policy: Policy,
  { id, tier, user }: Asked,
): Promise<Conversation | null> {
  const tiers = tier === null ? policy.config.tiers.allowed : [tier]
  const owners = user === null ? [null] : [null, user]
  const ids = tiers.flatMap((name) => owners.map((owner) => gateway.hasher.conversation(policy.config, name, id, owner)))
  if (HASHED_ID.test(id)) ids.push(id)
  let newest: Conversation | null = null
  for (const candidate of ids) {
    const { conversation } = await gateway.store.read({ conversation: candidate, accounts: [], nowMs: gateway.nowMs() })
    if (conversation !== null && (newest === null || conversation.lastTurnAtMs > newest.lastTurnAtMs)) newest = conversation
  }
  return newest
}

/** Of the contract that it is pinned to; of its tier's newest where that one is gone; null where that is gone, too. */
export async function termsFor(
  { contracts }: Reading,
  { config }: Pick<Policy, 'config'>,
  conversation: Pick<Conversation, 'contractHash' | 'tier'>,
): Promise<Terms | null> {
  const pinned = await contracts.pinned(conversation.contractHash)
  if (pinned !== null) return pinned
  const newest = config.contracts[conversation.tier]
  return newest === undefined ? null : await contracts.newest(newest)
}

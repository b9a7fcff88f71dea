/** Thresholds that are watched, and which of them balances have reached. */
import type { NanoUsd } from '@farebox/crds/usd.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import type { Account, AccountId, Draw } from './budget.ts'
import type { ConversationChange } from './conversation.ts'
import { userPeriodOf } from './terms.ts'
import type { CapDraw } from './terms.ts'

export interface WatchedAlerts {
  readonly percents: readonly number[]
  /** Those of a session; the account that has used most of its cap decides. */
  readonly draws: readonly Draw[]
  /** The user's budget in this period; absent where none caps the turn. Earlier versions had it among `draws`. */
  readonly ofUser?: Draw & { readonly period: string }
}

/** What a turn that draws on these accounts watches: the owner's limits have no alerts. */
export function watchedAlerts(draws: readonly CapDraw[], percents: readonly number[]): WatchedAlerts {
  const of = (kind: CapDraw['kind']): Draw[] => draws.filter((draw) => draw.kind === kind).map(({ account, cap }) => ({ account, cap }))
  const [user] = of('user')
  const period = userPeriodOf(draws)
  return { draws: of('conversation'), percents, ...(user === undefined || period === null ? {} : { ofUser: { ...user, period } }) }
}

export function watchedDraws({ draws, ofUser }: WatchedAlerts): readonly Draw[] {
  return ofUser === undefined ? draws : [...draws, ofUser]
}

/** The change with the alerts that these balances have reached, beside those that it has. */
export function withReached<Change extends ConversationChange>(
  change: Change,
  { draws, percents, ofUser }: WatchedAlerts,
  accounts: ReadonlyMap<AccountId, Account>,
): Change {
  const addAlerts = [...(change.addAlerts ?? []), ...reachedPercents({ draws, percents }, accounts)]
  if (ofUser === undefined) return { ...change, addAlerts }
  const reached = reachedPercents({ draws: [ofUser], percents }, accounts)
  return reached.length === 0
    ? { ...change, addAlerts }
    : { ...change, addAlerts, addUserAlerts: { period: ofUser.period, percents: reached } }
}

/** Thresholds, in percent, that the tightest of the accounts has reached: spent and the input of calls under way, of its cap. */
function reachedPercents(
  { draws, percents }: { readonly draws: readonly Draw[]; readonly percents: readonly number[] },
  accounts: ReadonlyMap<AccountId, Account>,
): number[] {
  const used = draws.flatMap(({ account, cap }): { readonly used: NanoUsd; readonly cap: NanoUsd }[] => {
    const { spent, heldInput } = accounts.get(account) ?? EMPTY_ACCOUNT
    return cap === null ? [] : [{ used: spent + heldInput, cap }]
  })
  return percents.filter((percent) => used.some((one) => one.used * 100n >= one.cap * BigInt(percent)))
}

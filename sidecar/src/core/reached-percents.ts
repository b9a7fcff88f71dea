import type { NanoUsd } from '@farebox/crds/usd.ts'
import { EMPTY_ACCOUNT } from './budget.ts'
import type { Account, AccountId, Draw } from './budget.ts'

/** Thresholds, in percent, that the tightest of the watched accounts has reached: spent and the input of calls under way, of its cap. */
export function reachedPercents(
  { draws, percents }: { readonly draws: readonly Draw[]; readonly percents: readonly number[] },
  accounts: ReadonlyMap<AccountId, Account>,
): number[] {
  const used = draws.flatMap(({ account, cap }): { readonly used: NanoUsd; readonly cap: NanoUsd }[] => {
    const { spent, heldInput } = accounts.get(account) ?? EMPTY_ACCOUNT
    return cap === null ? [] : [{ used: spent + heldInput, cap }]
  })
  return percents.filter((percent) => used.some((one) => one.used * 100n >= one.cap * BigInt(percent)))
}

/** Which service tiers a call is held at: the one that it asks for, and the one that its account has for calls that ask for none. */
import { servedAs, servedWords } from '@farebox/crds/prices.ts'

/** The tier of a call whose provider has yet to choose one. */
export const UNDECIDED = 'auto'
/** They leave the choice to the account: OpenAI's word (a project's setting), and Gemini's for none. */
const OPEN_WORDS: ReadonlySet<string> = new Set([UNDECIDED, 'unspecified'])
/** Of what an answer says, no more is kept. */
const TIER_LENGTH_MAX = 200

/** A request's tier, where it may leave a part to the account: that part is `UNDECIDED`. `asked` null: it says nothing. */
function leavesToAccount(asked: string | null): boolean {
  return asked === null || servedWords(asked).some((word) => OPEN_WORDS.has(word))
}

/** What of the tier that served a request was the account's choice, and not asked for; null: nothing is known of it. */
export function chosenByAccount(asked: string | null, served: string | null): string | null {
  if (served === null || served.length > TIER_LENGTH_MAX || !leavesToAccount(asked)) return null
  const askedFor = servedWords(asked)
  return servedAs(servedWords(served).filter((word) => !askedFor.includes(word) && !OPEN_WORDS.has(word)))
}

/**
 * The tiers of which the dearest price counts before the provider has said which one served: the standard one, the one that was asked for,
 * and where that leaves it to the account, `ofAccount`: the one that it was seen to have; null for none.
 */
export function possibleTiers(asked: string | null, ofAccount: string | null): readonly (string | null)[] {
  const tiers = [null, asked ?? UNDECIDED]
  if (ofAccount === null || !leavesToAccount(asked)) return tiers
  const named = servedWords(asked).filter((word) => !OPEN_WORDS.has(word))
  return [...tiers, servedAs([...named, ...servedWords(ofAccount)])]
}

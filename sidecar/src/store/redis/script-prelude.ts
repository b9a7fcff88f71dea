/**
 * What the scripts of the Redis store share, in Lua 5.1 as Redis and Valkey run it: the clock, balances, operations, entries
 * and conversations of one tag. Amounts are integers below 2^53, where a double loses no digit; whatever would pass that is
 * refused before anything is written. Texts that scripts need not understand (notes, edits) stay the JSON that they came as.
 *
 * Lua lives in template strings of `.ts` files: the program runs as written and from its bundle with no loader in either,
 * and each constant has one source. `String.raw` keeps the Lua as it reads.
 */
import { ACCOUNTS } from './lua/accounts.ts'
import { CHANGE } from './lua/change.ts'
import { CONVERSATIONS } from './lua/conversations.ts'
import { DAYS } from './lua/days.ts'
import { LEDGER } from './lua/ledger.ts'
import { OPERATIONS } from './lua/operations.ts'
import { PUT_CONVERSATION } from './lua/put-conversation.ts'
import { STEP } from './lua/step.ts'

/** In this order, for what is local in Lua is seen only below itself. */
export const PRELUDE = STEP + DAYS + ACCOUNTS + OPERATIONS + LEDGER + CONVERSATIONS + CHANGE + PUT_CONVERSATION

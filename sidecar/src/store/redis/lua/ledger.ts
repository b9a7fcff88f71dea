/** Entries of the ledger, in Lua, which are added up by day; and the expiry of a hold, which is one. */
export const LEDGER = String.raw`
-- One immutable fact. Tiers add up per day of UTC. A note is not read, for whatever it holds: cjson refuses what JSON allows, as half a
-- surrogate pair, and would fail the step.
local function enter(id, kind, accounts, cost, atMs, tier, user, note)
  if tier ~= '' and kind ~= 'outcome' then
    local day = dayOf(tonumber(atMs))
    count(tier, day, 'spent', text(cost))
    if user ~= '' then countSpent(tier, day, user, text(cost)) end
  end
  tick = tick + 1
  call('HSET', META, 'tick', text(tick))
  call('XADD', PREFIX .. 'ledger', text(tick) .. '-0', 'o', id, 'k', kind, 'a', accounts, 'c', text(cost), 't', atMs, 'n', note)
end

-- The charge of a hold that had expired, as it was entered.
local function enterTakenBack(id, operation, atMs)
  local hold = tonumber(operation[HOLD])
  if hold ~= 0 then enter(id, 'correction', operation[ACCOUNTS], -hold, atMs, operation[TIER], userOf(operation), operation[NOTE]) end
end
-- The hold of an operation becomes its cost until the truth comes: its accounts after that, in memory.
local function chargedAccounts(operation)
  local hold = tonumber(operation[HOLD])
  local accounts = accountsOf(ownOf(operation))
  move(accounts, hold, -hold, -tonumber(operation[INPUT]))
  return accounts
end
local function putExpired(id, operation, accounts)
  enter(id, 'expiry', operation[ACCOUNTS], tonumber(operation[HOLD]), text(now), operation[TIER], userOf(operation), operation[NOTE])
  operation[STATUS] = 'expired'
  putOperation(id, operation)
  putAccounts(accounts, false, operation[TIER])
end
`

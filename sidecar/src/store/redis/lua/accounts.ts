/** Balances, in Lua: read, moved in memory, written, and told. A session's cost is counted as its account is written. */
import { LONE_SESSION_PREFIX, SESSION_PREFIX, SUMMARIES_SUFFIX } from '../../../core/totals.ts'
import { ACCOUNTS_WEEK_MS } from '../keys.ts'

export const ACCOUNTS = String.raw`
-- Balances: spent, held, input, touched; and of a session that counts, its day and its tier.
local function accountOf(id)
  local account = { id = id, spent = 0, held = 0, input = 0, touched = now, isAlive = false }
  local packed = call('GET', key('a', id))
  if not packed then return account end
  local spent, held, input, touched, day, tier = string.match(packed, '^(%-?%d+) (%-?%d+) (%-?%d+) (%d+) ?(%d*) ?(.*)$')
  if not spent then corrupt('account ' .. id) end
  if held == '0' and now - tonumber(touched) > LIFE then return account end
  account.isAlive = true
  account.spent, account.held, account.input, account.touched = tonumber(spent), tonumber(held), tonumber(input), tonumber(touched)
  if day ~= '' then account.day, account.tier, account.counted = tonumber(day), tier, account.spent end
  return account
end
local function accountsOf(ids)
  local accounts = {}
  for index, id in ipairs(ids) do accounts[index] = accountOf(id) end
  return accounts
end
-- Accounts that are drawn on, and the cap of each that has one.
local function takeDraws()
  local draws, caps = {}, {}
  for index = 1, takeNumber() do
    draws[index] = take()
    caps[index] = takeNumber()
  end
  return draws, caps
end
-- In memory only; putAccounts writes. So a step that is refused has written nothing.
local function move(accounts, spent, held, input)
  for _, account in ipairs(accounts) do
    account.spent, account.held, account.input = account.spent + spent, account.held + held, account.input + input
    if account.spent > MAX or account.held > MAX then refuse('a balance') end
  end
end
local function packedAccount(account)
  local balance = text(account.spent) .. ' ' .. text(account.held) .. ' ' .. text(account.input) .. ' ' .. text(account.touched)
  return account.day and balance .. ' ' .. text(account.day) .. ' ' .. account.tier or balance
end
-- core/cost-buckets.ts: frexp tells the binary digits, and powers of two divide without rounding.
local function bucketOf(cost)
  if cost <= 0 then return 0 end
  local _, digits = math.frexp(cost)
  local following = math.max(0, digits - 4)
  return 8 * following + math.floor(cost / 2 ^ following)
end
-- core/totals.ts, countsAfter: a session whose void took back all that it had spent was not sold.
local function uncountUnsold(accounts)
  for _, account in ipairs(accounts) do
    if account.counted and account.counted > 0 and account.spent <= 0 then
      count(account.tier, account.day, text(bucketOf(account.counted)), '-1')
      account.day, account.tier, account.counted = nil, nil, nil
    end
  end
end
-- A session counts once, where it has come to by now; on the day and in the tier that it was sold on. The tier is that of an operation
-- that sells, and '' of any other.
local function countCost(account, tier)
  local before = account.counted and bucketOf(account.counted)
  if not before then
    if tier == '' or string.sub(account.id, 1, ${SESSION_PREFIX.length}) ~= '${SESSION_PREFIX}' then return end
    if string.sub(account.id, -${SUMMARIES_SUFFIX.length}) == '${SUMMARIES_SUFFIX}' then return end
    if string.sub(account.id, 1, ${LONE_SESSION_PREFIX.length}) == '${LONE_SESSION_PREFIX}' then return end
    account.day, account.tier = dayOf(now), tier
  end
  local bucket = bucketOf(account.spent)
  if bucket == before then return end
  if before then count(account.tier, account.day, text(before), '-1') end
  count(account.tier, account.day, text(bucket), '1')
end
-- Who checks the books asks for all accounts that live, also for one that no entry names. Those of a conversation are found by it; the
-- others are listed by the weeks that they were used in, once in each, so that a list ends by itself when all in it are gone.
local function listUse(account, isTouched)
  if string.sub(account.id, 1, ${SESSION_PREFIX.length}) == '${SESSION_PREFIX}' then return end
  local week = math.floor(now / ${ACCOUNTS_WEEK_MS})
  if account.isAlive and (not isTouched or math.floor(account.touched / ${ACCOUNTS_WEEK_MS}) == week) then return end
  local used = key('b', text(week))
  call('HSET', used, account.id, '')
  call('PEXPIRE', used, text(tonumber(KEEP) + ${ACCOUNTS_WEEK_MS}))
  -- Nobody reads that of six weeks ago. What expires by itself the server frees in one go, and a long list would hold up everybody; a user
  -- of the store that an earlier version made may not ask for better.
  redis.pcall('UNLINK', key('b', text(week - 6)))
end
-- An account lives while it holds. The tier: see countCost.
local function putAccounts(accounts, isTouched, tier)
  for _, account in ipairs(accounts) do
    listUse(account, isTouched)
    if isTouched then account.touched = now end
    countCost(account, tier)
    if account.held > 0 then
      call('SET', key('a', account.id), packedAccount(account))
    else
      call('SET', key('a', account.id), packedAccount(account), 'PX', KEEP)
    end
  end
end

-- Ids with their balances, one after the other.
local function packedAccounts(ids)
  local packed = {}
  for _, account in ipairs(accountsOf(ids)) do
    packed[#packed + 1] = account.id
    packed[#packed + 1] = packedAccount(account)
  end
  return packed
end
local function joinedIds(own, drawn)
  local ids, known = {}, {}
  for _, list in ipairs({ own, drawn }) do
    for _, id in ipairs(list) do
      if not known[id] then
        known[id] = true
        ids[#ids + 1] = id
      end
    end
  end
  return ids
end
`

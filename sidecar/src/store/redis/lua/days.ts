/**
 * What a tier's days came to, in Lua: a hash each, by the names of core/totals.ts and of outcomes, and a sketch of their users.
 * Their lives are counted from the newest name, and the newest user.
 */
export const DAYS = String.raw`
local function dayOf(atMs)
  return math.floor(atMs / DAY)
end
local function dayKey(tier, day)
  return key('d', text(day) .. ':' .. tier)
end
local function count(tier, day, name, by)
  local listed = dayKey(tier, day)
  if tonumber(call('HINCRBY', listed, name, by)) == tonumber(by) then call('PEXPIRE', listed, TOTALS_LIFE) end
end
-- Different users of a tier's day are not listed, but estimated by a sketch of at most 12 KiB.
local function countUser(tier, day, user)
  local sketch = key('u', text(day) .. ':' .. tier)
  if call('PFADD', sketch, user) == 1 then call('PEXPIRE', sketch, TOTALS_LIFE) end
end
`

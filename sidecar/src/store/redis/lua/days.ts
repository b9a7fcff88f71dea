/**
 * What a tier's days came to, in Lua: of each a hash by the names of core/totals.ts and of outcomes, one of what its users spent, and a
 * sketch of these. The life of each is counted from its newest name, or user.
 */
export const DAYS = String.raw`
local function dayOf(atMs)
  return math.floor(atMs / DAY)
end
local function dayKey(tier, day)
  return key('d', text(day) .. ':' .. tier)
end
local function addTo(listed, name, by)
  if tonumber(call('HINCRBY', listed, name, by)) == tonumber(by) then call('PEXPIRE', listed, TOTALS_LIFE) end
end
local function count(tier, day, name, by)
  addTo(dayKey(tier, day), name, by)
end
local function countSpent(tier, day, user, cost)
  addTo(key('v', text(day) .. ':' .. tier), user, cost)
end
-- Different users of a tier's day are not listed, but estimated by a sketch of at most 12 KiB.
local function countUser(tier, day, user)
  local sketch = key('u', text(day) .. ':' .. tier)
  if call('PFADD', sketch, user) == 1 then call('PEXPIRE', sketch, TOTALS_LIFE) end
end
`

/**
 * Scripts for what users and assistants said. The entries of a user are in one hash, by id, and their ids in two lists, by
 * time and by expiry. As in scripts.ts, after the same prelude.
 */
import { MEMORY_ENTRIES_MAX } from '../store.ts'

const lua = String.raw

/** So many entries of a user are forgotten as others are remembered. */
const EXPIRED_MAX = 500

const FORGET_EXPIRED = lua`
local function dropEntries(user, ids)
  for _, id in ipairs(ids) do
    call('HDEL', key('m', user), id)
    call('ZREM', key('i', user), id)
    call('ZREM', key('j', user), id)
  end
end
local function endOf(user, index)
  return tonumber(call('ZRANGE', key('j', user), index, index, 'WITHSCORES')[2])
end
-- Answers how many.
local function forgetExpired(user, most)
  local ids = call('ZRANGEBYSCORE', key('j', user), '-inf', text(now), 'LIMIT', 0, most)
  dropEntries(user, ids)
  if call('EXISTS', key('m', user)) == 0 then
    call('ZREM', PREFIX .. 'memories', user)
    return #ids
  end
  call('ZADD', PREFIX .. 'memories', text(endOf(user, 0)), user)
  local life = text(math.max(0, endOf(user, -1) - now) + SLACK)
  for _, kind in ipairs({ 'm', 'i', 'j' }) do call('PEXPIRE', key(kind, user), life) end
  return #ids
end
`

const REMEMBER = lua`
${FORGET_EXPIRED}
local user, expires = take(), text(now + takeNumber())
forgetExpired(user, ${EXPIRED_MAX})
keepTime()
for _ = 1, takeNumber() do
  local id, atMs, entry = take(), take(), take()
  if tonumber(expires) > now and call('HSETNX', key('m', user), id, entry) == 1 then
    call('ZADD', key('i', user), atMs, id)
    call('ZADD', key('j', user), expires, id)
  end
end
local over = call('ZCARD', key('i', user)) - ${MEMORY_ENTRIES_MAX}
if over > 0 then dropEntries(user, call('ZRANGE', key('i', user), 0, over - 1)) end
forgetExpired(user, ${EXPIRED_MAX})
return reply()
`

/** What has expired, so many entries of whichever users. Tells whether there may be more. */
const DROP_EXPIRED = lua`
${FORGET_EXPIRED}
local left = takeNumber()
keepTime()
for _, user in ipairs(call('ZRANGEBYSCORE', PREFIX .. 'memories', '-inf', text(now), 'LIMIT', 0, left)) do
  if left <= 0 then break end
  left = left - math.max(1, forgetExpired(user, left))
end
return reply(left <= 0 and 'more' or '')
`

/** Id and time of each entry that is alive. */
const MEMORY_IDS = lua`
local user, isAlive, known = take(), {}, {}
for _, id in ipairs(call('ZRANGEBYSCORE', key('j', user), '(' .. text(now), '+inf')) do isAlive[id] = true end
local times = call('ZRANGE', key('i', user), 0, -1, 'WITHSCORES')
for index = 1, #times, 2 do
  if isAlive[times[index]] then appended(known, { times[index], times[index + 1] }) end
end
return reply(known)
`

/** Without those that are gone. */
const MEMORY_ENTRIES = lua`
local user, entries = take(), {}
for _, id in ipairs(takeList()) do entries[#entries + 1] = call('HGET', key('m', user), id) or nil end
return reply(entries)
`

/** These entries, and those that have expired: what was said since they were listed stays. Answers how many of them were alive. */
const FORGET_MEMORY = lua`
${FORGET_EXPIRED}
local user, isListed = take(), {}
for _, id in ipairs(takeList()) do isListed[id] = true end
local entries, gone, isNew = 0, {}, false
for _, id in ipairs(call('ZRANGEBYSCORE', key('j', user), '(' .. text(now), '+inf')) do
  if isListed[id] then
    entries = entries + 1
    gone[entries] = id
  else
    isNew = true
  end
end
keepTime()
if isNew then
  dropEntries(user, gone)
  forgetExpired(user, ${EXPIRED_MAX})
else
  call('DEL', key('m', user), key('i', user), key('j', user))
  call('ZREM', PREFIX .. 'memories', user)
end
return reply(text(entries))
`

/** Of those of these conversations that are the user's, or of all of them where no user is named: withoutTexts of ../texts.ts. */
const FORGET_TEXTS = lua`
local user, ids = take(), takeList()
-- An edit is not read, as a note is not: a text in it may be one that cjson refuses, and in a text each quote is escaped.
local function keepOurs(kind, id)
  local known, ours = list(kind, id), {}
  for _, item in ipairs(known) do
    if string.find(item, '"kind":"notice"', 1, true) then ours[#ours + 1] = item end
  end
  if #ours == #known then return text(#known) end
  call('DEL', key(kind, id))
  putList(kind, id, ours)
  if #ours > 0 then call('PEXPIRE', key(kind, id), KEEP) end
  return text(#ours)
end
keepTime()
for _, id in ipairs(ids) do
  local c = conversationOf(id)
  if c and (user == '' or c[F.user] == user) and (c[F.edits] ~= '0' or c[F.readyEdits] ~= '0') then
    c[F.edits], c[F.readyEdits] = keepOurs('e', id), keepOurs('r', id)
    call('SET', key('k', id), table.concat(c, '\n'), 'KEEPTTL')
  end
end
return reply()
`

export const MEMORY_STEPS = {
  remember: REMEMBER,
  dropExpired: DROP_EXPIRED,
  memoryIds: MEMORY_IDS,
  memoryEntries: MEMORY_ENTRIES,
  forgetMemory: FORGET_MEMORY,
  forgetTexts: FORGET_TEXTS,
} as const

/** The script that keeps a ledger short: `carriedOver` of core/ledger.ts, in Lua: change both. As in scripts.ts, after the same prelude. */
import { LIVES_APART_MS } from '@farebox/crds/ledger-page.ts'
import { DAY_MS } from '../../core/utc-day.ts'

/** How often what is carried is looked through, by whichever sidecar sweeps then. */
const LOOKED_THROUGH_EVERY_MS = DAY_MS
/**
 * Nothing is dropped until an entry is too old by this much; then all are that are too old. For who has read what is carried, and not yet
 * the entry that is added to it, has read too little: that should be rare, however many entries grow old in a day.
 */
const DROPPED_TOGETHER_MS = 3_600_000

/**
 * Drops the oldest entries of the stream, in order, up to the first that is young enough. A stream takes nothing in its middle, so what
 * is carried is beside it, under the tick of the first entry that it stands for: all of it comes before what is in the stream.
 * Accounts of another tag are those of periods, which have outlived their life by then.
 *
 * Once a day it looks through what is carried: for accounts that have died since, and for what an older version, which added up
 * within a page alone, left as several. How far that has come is in `meta`, so that any sidecar goes on with it.
 * Nothing of the stream is dropped until it is through, for only then is what `l` names surely the last of its accounts.
 *
 * Tells whether there is more to do at once.
 */
export const CARRY_OVER = String.raw`
local oldest, limit = now - takeNumber(), takeNumber()
local CARRIED, LEDGER = PREFIX .. 'carried', PREFIX .. 'ledger'

local function packedCarried(entry)
  return table.concat({ entry.tick, entry.id, entry.accounts, text(entry.cost), text(entry.atMs) }, '\n')
end
local function carriedEntry(packed)
  local tick, id, accounts, cost, atMs = unpack(split(packed, '\n'))
  return { tick = tick, id = id, accounts = accounts, cost = tonumber(cost), atMs = tonumber(atMs), packed = packed }
end
local function streamEntry(row)
  local fields = {}
  for index = 1, #row[2], 2 do fields[row[2][index]] = row[2][index + 1] end
  return {
    tick = string.match(row[1], '^%d+'),
    id = fields.o .. '/' .. fields.k,
    accounts = fields.a,
    cost = tonumber(fields.c),
    atMs = tonumber(fields.t),
  }
end

-- What is carried for these accounts at this tick, before an entry; an older version may have taken it away.
local function carriedAt(tick, name, entry)
  if not tick or tonumber(tick) >= tonumber(entry.tick) then return false end
  local packed = call('ZRANGEBYSCORE', CARRIED, tick, tick)[1]
  local known = packed and carriedEntry(packed)
  return known and known.accounts == name and known or false
end

-- Entries in their order, of the stream or carried before: 'before' is what was carried of them and for their accounts, 'after' what is.
local function carry(entries)
  local isAlive, places, last, before, after = {}, {}, {}, {}, {}
  for _, entry in ipairs(entries) do
    before[#before + 1] = entry.packed
    local living = {}
    for _, id in ipairs(idsOf(entry.accounts)) do
      if isAlive[id] == nil then isAlive[id] = accountOf(id).isAlive end
      if isAlive[id] then living[#living + 1] = id end
    end
    local name = table.concat(living, '\t')
    if name ~= '' and string.sub(entry.id, -8) ~= '/outcome' then
      if last[name] == nil then
        places[name] = call('GET', key('l', name))
        last[name] = carriedAt(places[name], name, entry)
        if last[name] then
          before[#before + 1] = last[name].packed
          after[#after + 1] = last[name]
        end
      end
      local known = last[name]
      if known and entry.atMs - known.atMs <= ${LIVES_APART_MS} and math.abs(known.cost + entry.cost) <= MAX then
        known.cost, known.atMs = known.cost + entry.cost, math.max(known.atMs, entry.atMs)
      else
        last[name] = { tick = entry.tick, id = entry.id, accounts = name, cost = entry.cost, atMs = entry.atMs }
        after[#after + 1] = last[name]
      end
    end
  end

  -- Nothing is written that is there.
  local isCarried, wasCarried = {}, {}
  for _, entry in ipairs(after) do isCarried[packedCarried(entry)] = true end
  for _, packed in ipairs(before) do
    wasCarried[packed] = true
    if not isCarried[packed] then call('ZREM', CARRIED, packed) end
  end
  for _, entry in ipairs(after) do
    local packed = packedCarried(entry)
    if not wasCarried[packed] then call('ZADD', CARRIED, entry.tick, packed) end
  end
  -- It is forgotten when all that could still be added has come.
  for name, entry in pairs(last) do
    if entry and (places[name] ~= entry.tick or not wasCarried[packedCarried(entry)]) then
      call('SET', key('l', name), entry.tick, 'PX', KEEP)
    end
  end
end

local looked = call('HMGET', META, 'carriedFrom', 'carriedAt')
local from, lookedAt = looked[1] or '', tonumber(looked[2] or '0')
if from ~= '' or math.abs(now - lookedAt) >= ${LOOKED_THROUGH_EVERY_MS} then
  local entries = {}
  for index, packed in ipairs(call('ZRANGEBYSCORE', CARRIED, '(' .. (from == '' and '0' or from), '+inf', 'LIMIT', 0, limit)) do
    entries[index] = carriedEntry(packed)
  end
  keepTime()
  if from == '' then call('HSET', META, 'carriedAt', text(now)) end
  carry(entries)
  call('HSET', META, 'carriedFrom', #entries == limit and entries[limit].tick or '')
  return reply('more')
end

local function oldestRows(count)
  return call('XRANGE', LEDGER, '-', '+', 'COUNT', count)
end
-- Mostly the first is young: then no more are read.
local first = oldestRows(1)[1]
if not first or streamEntry(first).atMs >= oldest - ${DROPPED_TOGETHER_MS} then return reply('') end
local entries = {}
for index, row in ipairs(oldestRows(limit)) do
  local entry = streamEntry(row)
  if entry.atMs >= oldest then break end
  entries[index] = entry
end
keepTime()
carry(entries)
call('XTRIM', LEDGER, 'MINID', text(tonumber(entries[#entries].tick) + 1) .. '-0')
return reply(#entries == limit and 'more' or '')
`

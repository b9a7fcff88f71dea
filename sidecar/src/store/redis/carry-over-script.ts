/** The script that keeps a ledger short: `carriedOver` of core/ledger.ts, in Lua: change both. As in scripts.ts, after the same prelude. */
import { LIVES_APART_MS } from '@farebox/crds/ledger-page.ts'

/**
 * Drops the oldest entries, in order, up to the first that is young enough. A stream takes nothing in its middle, so what is
 * carried is beside it, under the tick of the first entry that it stands for: all of it comes before what is in the stream.
 * Accounts of another tag are those of periods, which have outlived their life by then. Tells the tick to go on from; none when
 * no more is old enough.
 */
export const CARRY_OVER = String.raw`
local oldest, after, limit = now - takeNumber(), take(), takeNumber()
local CARRIED, LEDGER = PREFIX .. 'carried', PREFIX .. 'ledger'

local old, isDone = {}, false
local function see(entry)
  isDone = isDone or tonumber(entry.atMs) >= oldest
  if not isDone then old[#old + 1] = entry end
end
local function rows(count)
  return call('XRANGE', LEDGER, text(tonumber(after) + 1) .. '-0', '+', 'COUNT', count)
end
local function entryOf(row)
  local fields = {}
  for index = 1, #row[2], 2 do fields[row[2][index]] = row[2][index + 1] end
  return {
    tick = string.match(row[1], '^%d+'),
    id = fields.o .. '/' .. fields.k,
    accounts = fields.a,
    cost = tonumber(fields.c),
    atMs = fields.t,
  }
end
for _, packed in ipairs(call('ZRANGEBYSCORE', CARRIED, '(' .. after, '+inf', 'LIMIT', 0, limit)) do
  local tick, id, accounts, cost, atMs = unpack(split(packed, '\n'))
  see({ tick = tick, id = id, accounts = accounts, cost = tonumber(cost), atMs = atMs, packed = packed })
end
-- Mostly the first is young: then no more are read.
local first = not isDone and #old < limit and rows(1)[1]
if first and tonumber(entryOf(first).atMs) < oldest then
  for _, row in ipairs(rows(limit - #old)) do see(entryOf(row)) end
end
if #old == 0 then return reply('') end

local isAlive, carried, last = {}, {}, {}
for _, entry in ipairs(old) do
  local living = {}
  for _, id in ipairs(idsOf(entry.accounts)) do
    if isAlive[id] == nil then isAlive[id] = accountOf(id).isAlive end
    if isAlive[id] then living[#living + 1] = id end
  end
  local name = table.concat(living, '\t')
  local known = last[name]
  if name ~= '' and string.sub(entry.id, -8) ~= '/outcome' then
    if known and tonumber(entry.atMs) - tonumber(known.atMs) <= ${LIVES_APART_MS} then
      known.cost = known.cost + entry.cost
      if tonumber(entry.atMs) > tonumber(known.atMs) then known.atMs = entry.atMs end
    else
      last[name] = { tick = entry.tick, id = entry.id, accounts = name, cost = entry.cost, atMs = entry.atMs }
      carried[#carried + 1] = last[name]
    end
  end
end
keepTime()
local lastTick = old[#old].tick
for _, entry in ipairs(old) do
  if entry.packed then call('ZREM', CARRIED, entry.packed) end
end
for _, entry in ipairs(carried) do
  call('ZADD', CARRIED, entry.tick, table.concat({ entry.tick, entry.id, entry.accounts, text(entry.cost), entry.atMs }, '\n'))
end
call('XTRIM', LEDGER, 'MINID', text(tonumber(lastTick) + 1) .. '-0')
return reply(#old == limit and lastTick or '')
`

/** Operations, in Lua: those that are held or were charged at their expiry, and what is kept of those that have ended. */
import { COST_LIFE_MS, ENDED_OPERATION_LIFE_MS } from '../../store.ts'
import { KEEP_SLACK_MS } from './step.ts'

/** A hold that arrives this much later than the tag's clock had nobody waiting for it: refused. */
const GIVEN_UP_MS = 2_000

export const OPERATIONS = String.raw`
-- Operations: status, hold, input, expiry, cost, tier, accounts, note, the tag of each account; one line each. Before it has a cost
-- its user is there: with a line more, sidecars of the version before could not read it.
local STATUS, HOLD, INPUT, EXPIRES, COST, TIER, ACCOUNTS, NOTE, PLACES = 1, 2, 3, 4, 5, 6, 7, 8, 9
local USER = COST
local function userOf(operation)
  if operation[USER] ~= '0' then return operation[USER] end
  -- Of the version before. A user, who is hex, stands in the note as it is; each quote in a text is escaped, so that none looks like this.
  return string.match(operation[NOTE], '"user":"([^"\\]+)"') or ''
end
-- What has ended is listed as digests are, by when it ended and how its id begins: it takes an eighth of the memory.
local ENDED_SPAN = math.floor(tonumber(ENDED_LIFE) / 2)
local function endedKey(kind, span, id)
  return key(kind, text(span) .. ':' .. string.sub(id, 1, 3))
end
local function putEnded(kind, id, how)
  local listed = endedKey(kind, math.floor(now / ENDED_SPAN), id)
  call('HSET', listed, string.sub(id, 4), how)
  call('PEXPIRE', listed, '${ENDED_OPERATION_LIFE_MS + ENDED_OPERATION_LIFE_MS / 2}')
end
local function endedOf(kind, id)
  local span = math.floor(now / ENDED_SPAN)
  for before = 0, 2 do
    local how = call('HGET', endedKey(kind, span - before, id), string.sub(id, 4))
    if how then return how end
  end
  return nil
end
-- All that is kept of an operation that was settled or voided is that, what it cost, and which other tags have parts of it.
local function putEndedOperation(id, operation)
  local how, here, told = operation[STATUS] == 'settled' and operation[COST] or 'voided', string.match(PREFIX, '{(%d+)}'), {}
  for tag in string.gmatch(operation[PLACES], '%d+') do
    if tag ~= here and not told[tag] then
      how, told[tag] = how .. ',' .. tag, true
    end
  end
  putEnded('y', id, how)
end
local function endedOperation(id)
  local how = endedOf('y', id)
  if not how then return nil end
  local cost, places = string.match(how, '^(%a*%d*),?(.*)$')
  if cost == 'voided' then return { cost, '0', '0', '0', '0', '', '', '{}', places } end
  return { 'settled', '0', '0', '0', cost, '', '', '{}', places }
end
-- A hold that was voided before it came is given up, as is one that comes so late that nobody can wait for it.
local function putGivenUp(id)
  putEnded('g', id, '')
end
local function refuseGivenUp(id)
  if isLate and (knownClock - asked > ${GIVEN_UP_MS} or endedOf('g', id)) then error('this step comes after its sender gave it up', 0) end
end
-- isFirst: the id was made for this step, so that it has not ended unless the step is late.
local function operationOf(id, isFirst)
  local packed = call('GET', key('o', id))
  if not packed then
    if isFirst and not isLate then return nil end
    return endedOperation(id)
  end
  local operation = split(packed, '\n')
  if #operation ~= PLACES then corrupt('operation ' .. id) end
  return operation
end
local function putCharged(id)
  call('SET', key('c', id), text(now), 'PX', '${COST_LIFE_MS + KEEP_SLACK_MS}')
end
local function isCharged(id)
  local at = call('GET', key('c', id))
  return at and now - tonumber(at) <= ${COST_LIFE_MS}
end
local function packedOperation(operation)
  return table.concat(operation, '\n')
end
local function idsOf(joined)
  if joined == '' then return {} end
  return split(joined, '\t')
end
-- Those of its accounts that are in this tag; all of them unless it says where each is.
local function ownOf(operation)
  local ids = idsOf(operation[ACCOUNTS])
  if operation[PLACES] == '' then return ids end
  local here, own = string.match(PREFIX, '{(%d+)}'), {}
  for index, tag in ipairs(split(operation[PLACES], ',')) do
    if tag == here then own[#own + 1] = ids[index] end
  end
  return own
end
local function putOperation(id, operation)
  if operation[STATUS] == 'held' then
    call('SET', key('o', id), packedOperation(operation))
    call('ZADD', PREFIX .. 'held', operation[EXPIRES], id)
    return
  end
  if operation[STATUS] == 'expired' then
    call('SET', key('o', id), packedOperation(operation), 'PX', ENDED_LIFE)
  else
    call('DEL', key('o', id))
    putEndedOperation(id, operation)
  end
  call('ZREM', PREFIX .. 'held', id)
end
`

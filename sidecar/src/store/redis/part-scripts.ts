/**
 * Scripts for a namespace that is spread over tags: where a conversation is at home, and the parts of operations whose home is
 * another tag. As in scripts.ts, after the same prelude.
 */
import { CONVERSATION_LIFE_MS } from '../store.ts'
import { KEEP_SLACK_MS } from './lua/step.ts'

const lua = String.raw

/** The home of a conversation is known for longer than the conversation itself. */
const HOME_LIFE_MS = CONVERSATION_LIFE_MS + 4 * KEEP_SLACK_MS

const OPERATION = lua`
local operation = operationOf(take())
return reply(operation and packedOperation(operation) or '')
`

/** What is held past its time, oldest first: id, expiry and, of a part, home. */
const DUE = lua`
local listed, limit = take(), take()
local due = {}
if limit == '0' then return reply(due) end
local found = call('ZRANGEBYSCORE', PREFIX .. listed, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, limit)
for index = 1, #found, 2 do
  local part = listed == 'parts' and call('GET', key('p', found[index]))
  appended(due, { found[index], found[index + 1], part and split(part, '\n')[TIER] or '' })
end
return reply(due)
`

/** The home of a conversation: this tag when it, or what it has spent, is here, else the one known, else the one wanted. */
const CLAIM = lua`
local id, wanted = take(), take()
if conversationOf(id) or call('EXISTS', key('a', 'c:' .. id .. ':1')) == 1 then return reply('') end
local known = call('GET', key('q', id))
if known or wanted ~= '' then call('SET', key('q', id), known or wanted, 'PX', '${HOME_LIFE_MS}') end
return reply(known or wanted)
`

const CHAIN = lua`
local id, isRepeat = take(), take() == '1'
if isRepeat then
  putLostChain(takeList(), id)
else
  putChain(takeList(), id)
  keepTime()
end
return reply()
`

/** Holds the part of an operation whose home is another tag. One that has ended there takes no part in what is granted. */
const PART_HOLD = lua`
local id, expires, input, atLeast, atMost, home = take(), text(now + takeNumber()), takeNumber(), takeNumber(), takeNumber(), take()
local isFirst = take() == '1'
local draws, caps = takeDraws()
local packed = call('GET', key('p', id))
if packed then
  local known = split(packed, '\n')
  return reply(known[STATUS] == 'held' and 'exists' or 'ended', known[HOLD])
end
if isFirst then refuseGivenUp(id) end
if (isLate or not isFirst) and endedOf('w', id) then return reply('ended', '0') end
local accounts = accountsOf(draws)
local granted = atMost
for index, account in ipairs(accounts) do
  local cap = caps[index]
  if cap then
    local free = cap - account.spent - account.held
    if free < atLeast then return reply('refused', account.id) end
    if free < granted then granted = free end
  end
end
local held = math.min(input, granted)
move(accounts, 0, granted, held)
keepTime()
local part = { 'held', text(granted), text(held), expires, '0', home, table.concat(draws, '\t'), '', '' }
call('SET', key('p', id), packedOperation(part))
call('ZADD', PREFIX .. 'parts', expires, id)
putAccounts(accounts, true, '')
return reply('held', text(granted))
`

/**
 * Brings a part to where its operation is; once, however often it is told. One that is settled is that for ever, and no more is kept
 * of it. One that is not there, as where a failover lost it, is made with the accounts that are named.
 */
const FOLLOW = lua`
local id, what, value, ids = take(), take(), takeNumber(), takeList()
local packed = call('GET', key('p', id))
if not packed and (#ids == 0 or endedOf('w', id)) then return reply() end
local part = packed and split(packed, '\n') or { 'none', '0', '0', text(now), '0', '', table.concat(ids, '\t'), '', '' }
local status, hold, input = part[STATUS], tonumber(part[HOLD]), tonumber(part[INPUT])
local isHeld = status == 'held'
local accounts = accountsOf(idsOf(part[ACCOUNTS]))
local after, isTouched = nil, false
if what == 'settled' and status ~= 'settled' then
  if isHeld then
    move(accounts, value, -hold, -input)
  else
    move(accounts, status == 'expired' and value - hold or value, 0, 0)
  end
  after, isTouched = 'settled', true
elseif what == 'voided' and (isHeld or status == 'expired') then
  if isHeld then move(accounts, 0, -hold, -input) else move(accounts, -hold, 0, 0) end
  after = 'voided'
elseif what == 'expired' and isHeld then
  move(accounts, hold, -hold, -input)
  after = 'expired'
elseif what == 'expired' and status == 'none' then
  move(accounts, value, 0, 0)
  part[HOLD], after = text(value), 'expired'
elseif what == 'trimmed' and isHeld and hold > value then
  local left = math.min(input, value)
  move(accounts, 0, value - hold, left - input)
  part[HOLD], part[INPUT], after = text(value), text(left), 'held'
elseif what == 'renewed' and isHeld then
  part[EXPIRES], after = text(value), 'held'
elseif what == 'released' and isHeld then
  move(accounts, 0, -hold, -input)
  after = 'gone'
end
if after then
  keepTime()
  part[STATUS] = after
  if after == 'held' then
    call('SET', key('p', id), packedOperation(part))
    call('ZADD', PREFIX .. 'parts', part[EXPIRES], id)
  else
    if after == 'gone' or after == 'settled' then
      call('DEL', key('p', id))
    else
      call('SET', key('p', id), packedOperation(part), 'PX', ENDED_LIFE)
    end
    if after == 'settled' then putEnded('w', id, '') end
    call('ZREM', PREFIX .. 'parts', id)
  end
  putAccounts(accounts, isTouched, '')
end
return reply()
`

export const PART_STEPS = {
  operation: OPERATION,
  due: DUE,
  claim: CLAIM,
  chain: CHAIN,
  partHold: PART_HOLD,
  follow: FOLLOW,
} as const

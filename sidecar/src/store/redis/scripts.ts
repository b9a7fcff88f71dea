/**
 * One script per step: each is atomic, and repeats by operation id change nothing. All of them take the caller's clock and
 * the highest tick that it has seen, and answer with the clock and the tick of the tag; then what the step is about.
 */
import { TOTALS_LIFE_DAYS } from '../store.ts'
import { CARRY_OVER } from './carry-over-script.ts'
import { MEMORY_STEPS } from './memory-scripts.ts'
import { PART_STEPS } from './part-scripts.ts'
import { PRELUDE } from './script-prelude.ts'

const lua = String.raw

const READ = lua`
local id, ids = take(), takeList()
local record, edits, ready = snapshotOf(id, conversationOf(id))
return reply(record, edits, ready, packedAccounts(ids))
`

const FIND_BY_CHAIN = lua`
for _, digest in ipairs(takeList()) do
  local id = chained(digest)
  if id then return reply(digest, id) end
end
return reply()
`

const RESERVE = lua`
local id, expires, input, atLeast, atMost = take(), text(now + takeNumber()), takeNumber(), takeNumber(), takeNumber()
local tier, user, note, listed, places, talkId = take(), take(), take(), take(), take(), take()
local isFirst = take() == '1'
local contract, owner, session = take(), take(), take()
local initial = takeInitial()
local draws, caps = takeDraws()

local found = conversationOf(talkId)
local function answer(status, granted, conversation)
  local known = status == 'exists' and packedOperation(operationOf(id)) or ''
  local record, edits, ready = snapshotOf(talkId, conversation)
  return reply(status, granted, known, record, edits, ready, packedAccounts(draws))
end

if operationOf(id, isFirst) then return answer('exists', '', found) end
if isFirst then refuseGivenUp(id) end
if found and (found[F.contractHash] ~= contract or found[F.user] ~= owner or found[F.session] ~= session) then
  return answer('moved', '', found)
end

if not found then
  local home = homeElsewhere(talkId)
  if home then return answer('elsewhere', home, nil) end
end

local accounts = accountsOf(draws)
local granted, busy = atMost, nil
for index, account in ipairs(accounts) do
  local cap = caps[index]
  if cap then
    if atLeast > cap - account.spent - account.input then return answer('exceedsCap', account.id, found) end
    local free = cap - account.spent - account.held
    if free < atLeast then busy = busy or account.id end
    if free < granted then granted = free end
  end
end
if busy then return answer('busy', busy, found) end

move(accounts, 0, granted, math.min(input, granted))
local talk = found and stored(talkId, found) or initial
apply(talk, takeChange())
keepTime()
if places == '' then listed = table.concat(draws, '\t') end
putOperation(id, { 'held', text(granted), text(math.min(input, granted)), expires, user, tier, listed, note, places })
putAccounts(accounts, true, '')
putConversation(talkId, talk, true)
return answer('held', text(granted), talk.record)
`

const RENEW = lua`
local expires = text(now + takeNumber())
for _, id in ipairs(takeList()) do
  local operation = operationOf(id)
  if operation and operation[STATUS] == 'held' and tonumber(operation[EXPIRES]) < tonumber(expires) then
    operation[EXPIRES] = expires
    putOperation(id, operation)
  end
end
return reply()
`

const SETTLE = lua`
-- Whether s of an account has reached percent of cap: s * 100 >= cap * percent, in two halves, for a product would lose digits.
local HALF = 134217728
local function scaled(number, factor)
  local low = (number % HALF) * factor
  return math.floor(number / HALF) * factor + math.floor(low / HALF), low % HALF
end
local function isReached(account, cap, percent)
  local spentHigh, spentLow = scaled(account.spent, 100)
  local inputHigh, inputLow = scaled(account.input, 100)
  local high, low = spentHigh + inputHigh, spentLow + inputLow
  high, low = high + math.floor(low / HALF), low % HALF
  local capHigh, capLow = scaled(cap, percent)
  return high > capHigh or (high == capHigh and low >= capLow)
end

local id, cost, atMs, tier, user, note, talkId = take(), takeNumber(), take(), take(), take(), take(), take()
local chain, percents = takeList(), takeList()
local draws, caps = takeDraws()
local userPeriod = take()
local userDraws, userCaps = takeDraws()

local found = conversationOf(talkId)
local operation = operationOf(id)
local status = operation and operation[STATUS] or 'unknown'
local function answer(known, conversation, fired, firedForUser, ids)
  local record, edits, ready = snapshotOf(talkId, conversation)
  return reply(status, known, table.concat(fired, ','), table.concat(firedForUser, ','), record, edits, ready, packedAccounts(ids))
end
if status ~= 'held' and status ~= 'expired' then
  if status == 'settled' and found then putLostChain(chain, talkId) end
  return answer(operation and packedOperation(operation) or '', found, {}, {}, joinedIds(draws, userDraws))
end

local known = packedOperation(operation)
local hold = tonumber(operation[HOLD])
local own = ownOf(operation)
local accounts = accountsOf(own)
if status == 'held' then
  move(accounts, cost, -hold, -tonumber(operation[INPUT]))
else
  move(accounts, cost - hold, 0, 0)
end

local talk, fired, firedForUser = nil, {}, {}
if found then
  local balances = {}
  for _, account in ipairs(accounts) do balances[account.id] = account end
  local function reachedOn(draws, caps)
    local reached = {}
    for _, percent in ipairs(percents) do
      for index, draw in ipairs(draws) do
        balances[draw] = balances[draw] or accountOf(draw)
        if caps[index] and isReached(balances[draw], caps[index], tonumber(percent)) then
          reached[#reached + 1] = percent
          break
        end
      end
    end
    return reached
  end
  local change = takeChange()
  local asked = change.addAlerts and change.addAlerts ~= '' and split(change.addAlerts, ',') or {}
  change.addAlerts = table.concat(appended(asked, reachedOn(draws, caps)), ',')
  local ofUser = reachedOn(userDraws, userCaps)
  if #ofUser > 0 then change.alertsPeriod, change.addUserAlerts = userPeriod, table.concat(ofUser, ',') end
  talk = stored(talkId, found)
  fired, firedForUser = apply(talk, change)
end

keepTime()
if status == 'expired' then enterTakenBack(id, operation, atMs) end
enter(id, 'settlement', operation[ACCOUNTS], math.min(cost, hold), atMs, tier, user, note)
if cost > hold then enter(id, 'overrun', operation[ACCOUNTS], cost - hold, atMs, tier, user, note) end
operation[STATUS], operation[COST] = 'settled', text(cost)
putOperation(id, operation)
putAccounts(accounts, true, operation[TIER])
if talk then
  putConversation(talkId, talk, true)
  putChain(chain, talkId)
end
return answer(known, talk and talk.record, fired, firedForUser, joinedIds(own, joinedIds(draws, userDraws)))
`

const VOID = lua`
local id, atMs = take(), take()
local operation = operationOf(id)
if not operation then
  keepTime()
  putGivenUp(id)
  return reply('unknown', '')
end
local status = operation[STATUS]
if status ~= 'held' and status ~= 'expired' then return reply('exists', packedOperation(operation)) end
local hold = tonumber(operation[HOLD])
local accounts = accountsOf(ownOf(operation))
if status == 'held' then
  move(accounts, 0, -hold, -tonumber(operation[INPUT]))
else
  move(accounts, -hold, 0, 0)
  enterTakenBack(id, operation, atMs)
end
keepTime()
operation[STATUS] = 'voided'
putOperation(id, operation)
uncountUnsold(accounts)
putAccounts(accounts, false, '')
return reply('voided', packedOperation(operation))
`

const UPDATE = lua`
local talkId = take()
local initial = takeInitial()
local found = conversationOf(talkId)
local talk = found and stored(talkId, found) or initial
if not talk then return reply('', '', '', {}, {}) end
local home = talk.begins and homeElsewhere(talkId)
if home then return reply('elsewhere', home, '', {}, {}) end
local change = takeChange()
local isTouched = talk.begins or change.turnAtMs ~= nil
local fired, firedForUser = apply(talk, change)
keepTime()
putConversation(talkId, talk, isTouched)
local record, edits, ready = snapshotOf(talkId, talk.record)
return reply(table.concat(fired, ','), table.concat(firedForUser, ','), record, edits, ready)
`

const CHARGE = lua`
local id, cost, atMs, tier, user, note = take(), takeNumber(), take(), take(), take(), take()
local ids, places, talkId = takeList(), take(), take()
if isCharged(id) or operationOf(id) then return reply('exists') end
local operation = { 'settled', '0', '0', atMs, text(cost), tier, table.concat(ids, '\t'), note, places }
local accounts = accountsOf(ownOf(operation))
move(accounts, cost, 0, 0)
local found = conversationOf(talkId)
local talk = found and stored(talkId, found) or nil
if talk then apply(talk, takeChange()) end
keepTime()
enter(id, 'cost', operation[ACCOUNTS], cost, atMs, tier, user, note)
putOperation(id, operation)
putCharged(id)
putAccounts(accounts, true, tier)
if talk then putConversation(talkId, talk, true) end
return reply('charged')
`

/** A hold that cannot be charged, for what is kept of it or of its accounts is damaged, is looked at again after so long. */
const PUT_OFF_MS = 3_600_000
/** What was due so long ago waits for no owner any more, or it would for ever where no sidecar lives as long as the grace. */
const NOBODYS_MS = 3_600_000
const SWEEP = lua`
-- Nobody swept for longer than grace: whoever holds what is due may have been cut off as long, or the clock was set. They have as long to renew it.
local function isInGrace(grace)
  local marks = call('HMGET', META, 'swept', 'graceUntil')
  local swept, untilMs = tonumber(marks[1] or '0'), tonumber(marks[2] or '0')
  if math.abs(now - swept) > grace then
    untilMs = now + grace
    call('HSET', META, 'graceUntil', text(untilMs))
  end
  call('HSET', META, 'swept', text(now))
  return now < untilMs
end
local function due(id)
  local operation = operationOf(id)
  if not operation or operation[STATUS] ~= 'held' then return nil end
  return operation, packedOperation(operation), chargedAccounts(operation)
end
local limit, grace, expired, uncharged = take(), takeNumber(), {}, {}
keepTime()
local dueAt = isInGrace(grace) and now - ${NOBODYS_MS} or now
if limit == '0' then return reply(expired, uncharged) end
for _, id in ipairs(call('ZRANGEBYSCORE', PREFIX .. 'held', '-inf', text(dueAt), 'LIMIT', 0, limit)) do
  local isRead, operation, known, accounts = pcall(due, id)
  if not isRead then
    if not isDamage(operation) then error(operation, 0) end
    uncharged[#uncharged + 1] = id
    -- Out of the way of those behind it.
    call('ZADD', PREFIX .. 'held', text(now + ${PUT_OFF_MS}), id)
  elseif operation then
    appended(expired, { id, known })
    putExpired(id, operation, accounts)
  else
    call('ZREM', PREFIX .. 'held', id)
  end
end
return reply(expired, uncharged)
`

/**
 * Takes conversations that are gone off a list, oldest first, so many looked at from a place on. One that lives on by costs stays, though its
 * last turn is as long ago, and so does one that cannot be read. Tells the place to go on from; none where no more are that old.
 */
const DROP_TALKS = lua`
local listed, from, count = PREFIX .. take(), takeNumber(), takeNumber()
local looked, gone = 0, {}
local found = call('ZREVRANGE', listed, from, from + count - 1, 'WITHSCORES')
for index = 1, #found, 2 do
  local id, lastTurn = found[index], -tonumber(found[index + 1])
  if now - lastTurn <= LIFE then break end
  looked = looked + 1
  local isRead, conversation = pcall(conversationOf, id)
  if isRead and not conversation then gone[#gone + 1] = id end
end
for _, id in ipairs(gone) do call('ZREM', listed, id) end
return reply(looked == count and text(from + looked - #gone) or '')
`

/** So many of those of a list, from a place on: how many there were, and the records of those that are alive. */
const LIST_CONVERSATIONS = lua`
local list, from, count = take(), takeNumber(), takeNumber()
local ids, listed = call('ZRANGE', PREFIX .. list, from, from + count - 1), {}
for _, id in ipairs(ids) do
  local conversation = conversationOf(id)
  if conversation then listed[#listed + 1] = { id, table.concat(conversation, '\n') } end
end
return reply(text(#ids), listed)
`

/** The newest session of each of these conversations, whether its life is over or not; of a record that is damaged the first. */
const SESSIONS_OF = lua`
local known = {}
for _, id in ipairs(takeList()) do
  local record = call('GET', key('k', id))
  if record then
    known[#known + 1] = id
    known[#known + 1] = string.match(split(record, '\n')[F.session] or '', '^%d+$') or '1'
  end
end
return reply(known)
`

/** So many are looked at in one script, about; what is not found then is found by the next. */
const QUIET_LOOKED_MAX = 1_000
/** Oldest first; what is listed and is not like that any more is taken off the list. */
const LIST_QUIET = lua`
local tier, before, limit = take(), take(), takeNumber()
local quiet, listed, from, looked = quietKey(tier), {}, 0, 0
while #listed < limit and looked < ${QUIET_LOOKED_MAX} do
  local ids = call('ZRANGEBYSCORE', quiet, '-inf', '(' .. before, 'LIMIT', from, limit)
  if #ids == 0 then break end
  looked = looked + #ids
  for _, id in ipairs(ids) do
    local conversation = conversationOf(id)
    if not conversation or not awaitsResolution(id, conversation) or cjson.decode(conversation[F.tier]) ~= tier then
      call('ZREM', quiet, id)
    else
      from = from + 1
      if #listed < limit then listed[#listed + 1] = { id, table.concat(conversation, '\n') } end
    end
  end
end
return reply(listed)
`

/** Counts an outcome and enters it, once per key. A key is known as long as a conversation. */
const ADD_OUTCOME = lua`
local id, tier, user, note, atMs, accounts, names = take(), take(), take(), take(), take(), take(), takeList()
if not call('SET', key('x', id), '', 'NX', 'PX', KEEP) then return reply('exists') end
keepTime()
for _, name in ipairs(names) do count(tier, dayOf(tonumber(atMs)), name, '1') end
enter(id, 'outcome', accounts, 0, atMs, tier, user, note)
return reply('added')
`

/** What each of these days came to: name, sum, name, sum. */
const READ_DAYS = lua`
local tier, from, to = take(), takeNumber(), takeNumber()
local days = {}
for day = math.max(from, dayOf(now) - ${TOTALS_LIFE_DAYS - 1}), to do
  local sums = call('HGETALL', dayKey(tier, day))
  if #sums > 0 then days[#days + 1] = sums end
end
return reply(days)
`

/** From now on no entry of the tag has a tick as low as this. */
const FENCE = lua`
if tick > knownTick then call('HSET', META, 'tick', text(tick)) end
return reply(text(tick))
`

const STEPS = {
  read: READ,
  findByChain: FIND_BY_CHAIN,
  reserve: RESERVE,
  renew: RENEW,
  settle: SETTLE,
  void: VOID,
  update: UPDATE,
  charge: CHARGE,
  sweep: SWEEP,
  dropTalks: DROP_TALKS,
  carryOver: CARRY_OVER,
  listConversations: LIST_CONVERSATIONS,
  listQuiet: LIST_QUIET,
  sessionsOf: SESSIONS_OF,
  addOutcome: ADD_OUTCOME,
  readDays: READ_DAYS,
  fence: FENCE,
  ...PART_STEPS,
  ...MEMORY_STEPS,
} as const
export type ScriptName = keyof typeof STEPS

export const SCRIPTS = Object.fromEntries(Object.entries(STEPS).map(([name, body]) => [name, PRELUDE + body])) as Readonly<
  Record<ScriptName, string>
>

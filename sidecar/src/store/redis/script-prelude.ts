/**
 * What the scripts of the Redis store share, in Lua 5.1 as Redis and Valkey run it: the clock, balances, operations, entries
 * and conversations of one tag. Amounts are integers below 2^53, where a double loses no digit; whatever would pass that is
 * refused before anything is written. Texts that scripts need not understand (notes, edits) stay the JSON that they came as.
 *
 * Lua lives in template strings of `.ts` files: the program runs as written and from its bundle with no loader in either,
 * and each constant has one source. `String.raw` keeps the Lua as it reads.
 */
import { AMOUNT_MAX } from '../../core/budget.ts'
import { SESSION_PREFIX } from '../../core/totals.ts'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { CONVERSATION_LIFE_MS, ENDED_OPERATION_LIFE_MS, TOTALS_LIFE_DAYS } from '../store.ts'
import { DAY_MS } from '../utc-day.ts'
import { FIELDS, FIRST_FIELDS } from './conversation-record.ts'

/** Keys outlive what is in them by this much: the store's clock, not the server's, says when a life is over. */
const KEEP_SLACK_MS = 24 * 3_600_000
/** The home of a conversation is known for longer than the conversation itself. */
export const HOME_LIFE_MS = CONVERSATION_LIFE_MS + 4 * KEEP_SLACK_MS

/** Several times as long as anybody waits for an answer. */
const GIVEN_UP_MS = 2_000
/** Longer than a step is under way mostly, and much shorter than anybody waits for its answer. */
const LATE_MS = 50

/** Marks what is thrown when a balance would go beyond `AMOUNT_MAX`. */
export const RANGE_MARK = 'FAREBOX_RANGE'
/** Marks a record that cannot be read. */
export const CORRUPT_MARK = 'FAREBOX_CORRUPT'

const END_BIT = 2 ** RUNGS.indexOf('EndConversation')

export const PRELUDE = String.raw`
local LIFE = ${CONVERSATION_LIFE_MS}
local KEEP = '${CONVERSATION_LIFE_MS + KEEP_SLACK_MS}'
local SLACK = ${KEEP_SLACK_MS}
local ENDED_LIFE = '${ENDED_OPERATION_LIFE_MS}'
local MAX = ${AMOUNT_MAX}
local END_BIT = ${END_BIT}
local RUNGS = { ${RUNGS.map((rung) => `'${rung}'`).join(', ')} }
local DAY = ${DAY_MS}
local TOTALS_LIFE = '${TOTALS_LIFE_DAYS * DAY_MS}'
local F = { ${FIELDS.map((name, index) => `${name} = ${index + 1}`).join(', ')} }
local FIELD_COUNT, FIRST_FIELDS = ${FIELDS.length}, ${FIRST_FIELDS}

local call = redis.call
-- The one declared key is 'fb:<namespace>:{tag}:meta'; all others of the tag are named after it, so they are in its slot.
local META = KEYS[1]
local PREFIX = string.sub(META, 1, -5)

local cursor = 0
local function take()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function takeNumber()
  return tonumber(take())
end
local function takeList()
  local list = {}
  for index = 1, takeNumber() do list[index] = take() end
  return list
end

local function key(kind, id)
  return PREFIX .. kind .. ':' .. id
end
local function text(number)
  return string.format('%.0f', number)
end
local function split(joined, separator)
  local parts, from = {}, 1
  while true do
    local at = string.find(joined, separator, from, true)
    if not at then
      parts[#parts + 1] = string.sub(joined, from)
      return parts
    end
    parts[#parts + 1] = string.sub(joined, from, at - 1)
    from = at + 1
  end
end
local function refuse(what)
  error('${RANGE_MARK} ' .. what .. ' must be at most ' .. text(MAX), 0)
end
local function corrupt(what)
  error('${CORRUPT_MARK} ' .. what, 0)
end

-- The clock of the tag never runs backwards. The tick numbers its entries; a caller brings the highest that it has seen.
local meta = call('HMGET', META, 'clock', 'tick')
local knownClock, knownTick = tonumber(meta[1] or '0'), tonumber(meta[2] or '0')
local asked = takeNumber()
local now = math.max(knownClock, asked)
local tick = math.max(knownTick, takeNumber())
-- A step may come from a connection that is long gone, after what its sender did in its place on another.
local isLate = knownClock - asked > ${LATE_MS}
local function keepTime()
  if now > knownClock then call('HSET', META, 'clock', text(now)) end
end

-- What a tier's days came to: a hash each, by the names of core/totals.ts and of outcomes; its life is counted from its newest name.
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
-- A session counts once, where it has come to by now; on the day and in the tier that it began in.
local function countCost(account, tier)
  local before = account.counted and bucketOf(account.counted)
  if not before then
    if tier == '' or string.sub(account.id, 1, ${SESSION_PREFIX.length}) ~= '${SESSION_PREFIX}' then return end
    account.day, account.tier = dayOf(now), tier
  end
  local bucket = bucketOf(account.spent)
  if bucket == before then return end
  if before then count(account.tier, account.day, text(before), '-1') end
  count(account.tier, account.day, text(bucket), '1')
end
-- An account lives while it holds. The tier is that of the operation.
local function putAccounts(accounts, isTouched, tier)
  for _, account in ipairs(accounts) do
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

-- Operations: status, hold, input, expiry, cost, tier, accounts, note, the tag of each account; one line each.
local STATUS, HOLD, INPUT, EXPIRES, COST, TIER, ACCOUNTS, NOTE, PLACES = 1, 2, 3, 4, 5, 6, 7, 8, 9
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

-- What each user of a tier's day spent. The life of the list is counted from its newest user.
local function userSumsKey(tier, day)
  return key('v', text(day) .. ':' .. tier)
end
local function countSpent(tier, day, user, cost)
  local listed = userSumsKey(tier, day)
  if tonumber(call('HINCRBY', listed, user, cost)) == tonumber(cost) then call('PEXPIRE', listed, TOTALS_LIFE) end
end
-- One immutable fact. Tiers add up per day of UTC.
local function enter(id, kind, accounts, cost, atMs, tier, note)
  if tier ~= '' and kind ~= 'outcome' then
    local day = dayOf(tonumber(atMs))
    count(tier, day, 'spent', text(cost))
    local user = string.find(note, '"user":', 1, true) and cjson.decode(note).user
    if user then countSpent(tier, day, user, text(cost)) end
  end
  tick = tick + 1
  call('HSET', META, 'tick', text(tick))
  call('XADD', PREFIX .. 'ledger', text(tick) .. '-0', 'o', id, 'k', kind, 'a', accounts, 'c', text(cost), 't', atMs, 'n', note)
end

-- The hold of an operation becomes its cost until the truth comes.
local function expire(id, operation)
  local hold = tonumber(operation[HOLD])
  local accounts = accountsOf(ownOf(operation))
  move(accounts, hold, -hold, -tonumber(operation[INPUT]))
  enter(id, 'expiry', operation[ACCOUNTS], hold, text(now), operation[TIER], operation[NOTE])
  operation[STATUS] = 'expired'
  putOperation(id, operation)
  putAccounts(accounts, false, operation[TIER])
end

-- Conversations: one line per field.
local function conversationOf(id)
  local packed = call('GET', key('k', id))
  if not packed then return nil end
  local conversation = split(packed, '\n')
  if #conversation < FIRST_FIELDS then corrupt('conversation ' .. id) end
  -- Of an earlier version, which had fewer. What a later one has more stays as it is.
  for field = #conversation + 1, FIELD_COUNT do conversation[field] = '' end
  if now - tonumber(conversation[F.touched]) > LIFE then return nil end
  return conversation
end
-- Digests are listed together by when they came and how they begin: a key of its own would cost each of them three times its
-- size. Lists of a few hundred small fields are packed by the server.
local SPAN = math.floor(LIFE / 2)
local function chainKey(span, digest)
  return key('h', text(span) .. ':' .. string.sub(digest, 1, 3))
end
local function putChain(digests, id)
  local span = math.floor(now / SPAN)
  for _, digest in ipairs(digests) do
    local listed = chainKey(span, digest)
    call('HSET', listed, string.sub(digest, 4), text(now) .. ' ' .. id)
    call('PEXPIRE', listed, '${CONVERSATION_LIFE_MS + CONVERSATION_LIFE_MS / 2 + KEEP_SLACK_MS}')
  end
end
local function chained(digest)
  local span = math.floor(now / SPAN)
  for before = 0, 2 do
    local found = call('HGET', chainKey(span - before, digest), string.sub(digest, 4))
    if found then
      local touched, id = string.match(found, '^(%d+) (.*)$')
      if not touched then corrupt('digest ' .. digest) end
      return now - tonumber(touched) <= LIFE and id or nil
    end
  end
end

-- Of a settlement that is told again: those that were lost, or never came. What leads to another by now stays.
local function putLostChain(digests, id)
  local lost = {}
  for _, digest in ipairs(digests) do
    if not chained(digest) then lost[#lost + 1] = digest end
  end
  if #lost == 0 then return end
  keepTime()
  putChain(lost, id)
end

-- A conversation begins at its home alone; this says where else that is.
local function homeElsewhere(id)
  return call('GET', key('q', id))
end
local function list(kind, id)
  return call('LRANGE', key(kind, id), 0, -1)
end
-- What is read of a conversation: its record, edits, edits that are ready.
local function snapshotOf(id, conversation)
  if not conversation then return '', {}, {} end
  local edits = conversation[F.edits] ~= '0' and list('e', id) or {}
  local ready = conversation[F.readyEdits] ~= '0' and list('r', id) or {}
  return table.concat(conversation, '\n'), edits, ready
end

-- A conversation as it begins, in memory: its record, and its edits.
local function takeInitial()
  local packed = take()
  local edits, ready = takeList(), takeList()
  if packed == '' then return nil end
  return { record = split(packed, '\n'), edits = edits, ready = ready, begins = true }
end
local function stored(id, record)
  return {
    record = record,
    edits = record[F.edits] ~= '0' and list('e', id) or {},
    ready = record[F.readyEdits] ~= '0' and list('r', id) or {},
    begins = false,
  }
end
local function takeChange()
  local change = {}
  while cursor < #ARGV do
    local name = take()
    change[name] = take()
  end
  return change
end

local function items(joined)
  if not joined or joined == '' then return {} end
  return split(joined, '\t')
end
-- An item is a key and a text, both JSON, in which a carriage return is always escaped.
local function keyed(list)
  local known = {}
  for _, item in ipairs(list) do known[split(item, '\r')[1]] = true end
  return known
end
local function unknownOf(known, added)
  local fresh, keys = {}, keyed(known)
  for _, item in ipairs(added) do
    if not keys[split(item, '\r')[1]] then fresh[#fresh + 1] = item end
  end
  return fresh
end
local function appended(list, more)
  for _, item in ipairs(more) do list[#list + 1] = item end
  return list
end
-- By bytes, whatever the locale of the server.
local function isBefore(a, b)
  for index = 1, math.min(#a, #b) do
    local x, y = string.byte(a, index), string.byte(b, index)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Whether a later one was told before.
local function isOutdated(toldAt, knownAt)
  local known = tonumber(knownAt)
  return known ~= nil and tonumber(toldAt) < known
end
-- core/conversation-change.ts, on a record. Changes it in memory, and answers the alerts that are new.
local function apply(id, talk, change)
  local c = talk.record
  if change.openSession and tonumber(change.openSession) == tonumber(c[F.session]) + 1 then
    c[F.session], c[F.rungs], c[F.reason], c[F.alerts], c[F.notices] = change.openSession, '0', '', '', ''
    c[F.state], c[F.atTaskBoundary], c[F.userTurns], c[F.exactAtMs], c[F.exactMessages], c[F.exact] = 'open', '0', '0', '', '', ''
    c[F.resolution], c[F.resolvedAtMs], c[F.stateAtMs], c[F.boundaryAtMs], c[F.question], c[F.turnRungs] = 'none', '', '', '', '', '0'
  end
  if change.ofSession and change.ofSession ~= c[F.session] then
    local ofSession = { 'addRungs', 'addAlerts', 'addNotices', 'state', 'atTaskBoundary', 'addUserTurn', 'question', 'turnRungs', 'resolution', 'exact' }
    for _, name in ipairs(ofSession) do change[name] = nil end
  end
  if change.state and isOutdated(change.stateAtMs, c[F.stateAtMs]) then
    if change.state == 'ended' and change.addRungs then
      change.addRungs = tostring(bit.band(tonumber(change.addRungs), bit.bnot(END_BIT)))
    end
    change.state = nil
  end

  local fired = {}
  if change.addAlerts and change.addAlerts ~= '' then
    local alerts, known = c[F.alerts] == '' and {} or split(c[F.alerts], ','), {}
    for _, percent in ipairs(alerts) do known[percent] = true end
    for _, percent in ipairs(split(change.addAlerts, ',')) do
      if not known[percent] then fired[#fired + 1] = percent end
    end
    if #fired > 0 then
      appended(alerts, fired)
      table.sort(alerts, function(a, b) return tonumber(a) < tonumber(b) end)
      c[F.alerts] = table.concat(alerts, ',')
    end
  end

  if change.addEdits or change.addReadyEdits then
    local fresh = unknownOf(talk.edits, items(change.addEdits))
    talk.freshEdits = fresh
    appended(talk.edits, fresh)
    local ready = appended(talk.ready, unknownOf(talk.ready, items(change.addReadyEdits)))
    talk.ready = unknownOf(talk.edits, ready)
    talk.isReadyChanged = true
    c[F.edits], c[F.readyEdits] = tostring(#talk.edits), tostring(#talk.ready)
  end

  local known = tonumber(c[F.rungs])
  local rungs = known
  if change.addRungs then
    local added = tonumber(change.addRungs)
    if bit.band(added, bit.bnot(rungs)) ~= 0 then c[F.reason] = change.rungReason end
    rungs = bit.bor(rungs, added)
  end
  if change.state == 'open' then rungs = bit.band(rungs, bit.bnot(END_BIT)) end
  c[F.rungs], talk.risen = tostring(rungs), bit.band(rungs, bit.bnot(known))

  -- Periods of different kinds have no order: the owner changed the terms.
  local function kindOf(period) return string.match(period, '^[^:]*:') end
  if change.userPeriod and not (kindOf(change.userPeriod) == kindOf(c[F.userPeriod]) and isBefore(change.userPeriod, c[F.userPeriod])) then
    local known = c[F.userPeriod] == change.userPeriod and tonumber(c[F.userRungs]) or 0
    c[F.userPeriod], c[F.userRungs] = change.userPeriod, tostring(bit.bor(known, tonumber(change.userRungs)))
  end

  if change.addNotices or change.removeNotices then
    local notices = items(c[F.notices])
    appended(notices, unknownOf(notices, items(change.addNotices)))
    c[F.notices] = table.concat(unknownOf(items(change.removeNotices), notices), '\t')
  end

  if change.addDrivers then
    local drivers, added = split(c[F.drivers], ','), split(change.addDrivers, ',')
    for index = 1, #drivers do
      local sum = tonumber(drivers[index]) + tonumber(added[index])
      if sum > MAX then refuse('what a driver comes to') end
      drivers[index] = text(sum)
    end
    c[F.drivers] = table.concat(drivers, ',')
  end

  talk.turnAtMs, talk.isQuietMoved = change.turnAtMs, (change.resolution or change.state or change.openSession) ~= nil
  if change.turnAtMs then
    c[F.turns] = text(tonumber(c[F.turns]) + 1)
    if tonumber(change.turnAtMs) > tonumber(c[F.lastTurnAtMs]) then c[F.lastTurnAtMs] = change.turnAtMs end
  end
  if change.addUserTurn then c[F.userTurns] = text((tonumber(c[F.userTurns]) or 0) + 1) end
  for _, name in ipairs({ 'question', 'turnRungs' }) do
    if change[name] then c[F[name]] = change[name] end
  end
  if change.exact then
    local at, known = tonumber(change.exactAtMs), tonumber(c[F.exactAtMs])
    if not known or at > known or (at == known and tonumber(change.exactMessages) >= tonumber(c[F.exactMessages])) then
      c[F.exactAtMs], c[F.exactMessages], c[F.exact] = change.exactAtMs, change.exactMessages, change.exact
    end
  end
  for _, name in ipairs({ 'contractHash', 'contractPinnedAtMs' }) do
    if change[name] then c[F[name]] = change[name] end
  end
  if change.state then c[F.state], c[F.stateAtMs] = change.state, change.stateAtMs end
  if change.atTaskBoundary and not isOutdated(change.boundaryAtMs, c[F.boundaryAtMs]) then
    c[F.atTaskBoundary], c[F.boundaryAtMs] = change.atTaskBoundary, change.boundaryAtMs
  end
  if change.resolution and not isOutdated(change.resolvedAtMs, c[F.resolvedAtMs]) then
    c[F.resolution], c[F.resolvedAtMs] = change.resolution, change.resolvedAtMs
  end
  if change.resolutionRound and tonumber(change.resolutionRound) > tonumber(c[F.resolutionRound]) then
    c[F.resolutionRound] = change.resolutionRound
  end
  return fired
end

local function putList(kind, id, list)
  for _, item in ipairs(list) do call('RPUSH', key(kind, id), item) end
end
local function countTalk(talk)
  if talk.risen == 0 and not talk.turnAtMs then return end
  local tier = cjson.decode(talk.record[F.tier])
  for index, rung in ipairs(RUNGS) do
    if bit.band(talk.risen, 2 ^ (index - 1)) ~= 0 then count(tier, dayOf(now), rung, '1') end
  end
  if not talk.turnAtMs then return end
  local day, user = dayOf(tonumber(talk.turnAtMs)), talk.record[F.user]
  count(tier, day, 'turns', '1')
  if user ~= '' then countUser(tier, day, user) end
end
-- Those of a tier that await a resolution, by their last turn. awaitsResolution of core/conversation-change.ts.
local function quietKey(tier)
  return key('n', tier)
end
local function awaitsResolution(c)
  if c[F.turns] == '0' or c[F.state] == 'ended' then return false end
  if c[F.resolution] == 'none' then return true end
  local resolved = tonumber(c[F.resolvedAtMs])
  return c[F.resolution] == 'reversed' and resolved ~= nil and tonumber(c[F.lastTurnAtMs]) > resolved
end
local function putQuiet(id, talk)
  if not (talk.turnAtMs or talk.isQuietMoved or talk.begins) then return end
  local c = talk.record
  local listed = quietKey(cjson.decode(c[F.tier]))
  if awaitsResolution(c) then
    call('ZADD', listed, c[F.lastTurnAtMs], id)
    -- Whose last turn is longer ago than anything lives; nobody else may ever look at the list.
    call('ZREMRANGEBYSCORE', listed, '-inf', text(now - LIFE - SLACK))
    call('PEXPIRE', listed, KEEP)
  else
    call('ZREM', listed, id)
  end
end
local function putConversation(id, talk, isTouched)
  local c = talk.record
  countTalk(talk)
  if isTouched then c[F.touched] = text(now) end
  if talk.begins then
    call('DEL', key('e', id), key('r', id))
    putList('e', id, talk.edits)
    putList('r', id, talk.ready)
  elseif talk.isReadyChanged then
    putList('e', id, talk.freshEdits)
    call('DEL', key('r', id))
    putList('r', id, talk.ready)
  end
  if isTouched then
    call('SET', key('k', id), table.concat(c, '\n'), 'PX', KEEP)
  else
    call('SET', key('k', id), table.concat(c, '\n'), 'KEEPTTL')
  end
  if (isTouched or talk.isReadyChanged) and c[F.edits] ~= '0' then call('PEXPIRE', key('e', id), KEEP) end
  if (isTouched or talk.isReadyChanged) and c[F.readyEdits] ~= '0' then call('PEXPIRE', key('r', id), KEEP) end
  -- Newest first, and by id among equals.
  call('ZADD', PREFIX .. 'talks', '-' .. c[F.lastTurnAtMs], id)
  putQuiet(id, talk)
end
`

/** core/conversation-change.ts, in Lua, on a record in memory: change both. `apply`, at the end, names its steps. */
export const CHANGE = String.raw`
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

-- Answers the percents that are new, and all of them, joined.
local function addPercents(joined, added)
  local all, known, fired = joined == '' and {} or split(joined, ','), {}, {}
  for _, percent in ipairs(all) do known[percent] = true end
  for _, percent in ipairs(split(added, ',')) do
    if not known[percent] then fired[#fired + 1] = percent end
  end
  if #fired == 0 then return fired, joined end
  appended(all, fired)
  table.sort(all, function(a, b) return tonumber(a) < tonumber(b) end)
  return fired, table.concat(all, ',')
end

local function openSession(c, change)
  if not change.openSession or tonumber(change.openSession) ~= tonumber(c[F.session]) + 1 then return end
  if c[F.alerts] ~= '' then
    local _, all = addPercents(c[F.earlierAlerts], c[F.alerts])
    c[F.earlierAlerts] = all
  end
  c[F.session], c[F.rungs], c[F.reason], c[F.alerts], c[F.notices] = change.openSession, '0', '', '', ''
  c[F.state], c[F.atTaskBoundary], c[F.userTurns], c[F.exactAtMs], c[F.exactMessages], c[F.exact] = 'open', '0', '0', '', '', ''
  c[F.resolution], c[F.resolvedAtMs], c[F.stateAtMs], c[F.boundaryAtMs], c[F.question], c[F.turnRungs] = 'none', '', '', '', '', '0'
  if change.ladderApplies then c[F.ladderApplies] = change.ladderApplies end
end
-- Of the change: what is of a session that is over, and a state that a later one has replaced.
local function dropOutdated(c, change)
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
end
-- Periods of different kinds have no order: the owner changed the terms.
local function isEarlier(period, known)
  local function kindOf(name) return string.match(name, '^[^:]*:') end
  return kindOf(period) == kindOf(known) and isBefore(period, known)
end
-- This and the next answer those that are new.
local function addAlerts(c, change)
  if not change.addAlerts or change.addAlerts == '' then return {} end
  local fired, all = addPercents(c[F.alerts], change.addAlerts)
  c[F.alerts] = all
  return fired
end
local function addUserAlerts(c, change)
  local period = change.alertsPeriod
  if not period or change.addUserAlerts == '' or isEarlier(period, c[F.alertsPeriod]) then return {} end
  local fired, all = addPercents(c[F.alertsPeriod] == period and c[F.userAlerts] or '', change.addUserAlerts)
  c[F.alertsPeriod], c[F.userAlerts] = period, all
  return fired
end
local function addEdits(talk, change)
  if not change.addEdits and not change.addReadyEdits then return end
  local c = talk.record
  local fresh = unknownOf(talk.edits, items(change.addEdits))
  talk.freshEdits = fresh
  appended(talk.edits, fresh)
  local ready = appended(talk.ready, unknownOf(talk.ready, items(change.addReadyEdits)))
  talk.ready = unknownOf(talk.edits, ready)
  talk.isReadyChanged = true
  c[F.edits], c[F.readyEdits] = tostring(#talk.edits), tostring(#talk.ready)
end
local function addRungs(talk, change)
  local c = talk.record
  local known = tonumber(c[F.rungs])
  local rungs = known
  if change.addRungs then
    local added = tonumber(change.addRungs)
    if bit.band(added, bit.bnot(rungs)) ~= 0 then c[F.reason] = change.rungReason end
    rungs = bit.bor(rungs, added)
  end
  if change.state == 'open' then rungs = bit.band(rungs, bit.bnot(END_BIT)) end
  c[F.rungs], talk.risen = tostring(rungs), bit.band(rungs, bit.bnot(known))
end
local function addUserRungs(c, change)
  if change.userPeriod and not isEarlier(change.userPeriod, c[F.userPeriod]) then
    local known = c[F.userPeriod] == change.userPeriod and tonumber(c[F.userRungs]) or 0
    c[F.userPeriod], c[F.userRungs] = change.userPeriod, tostring(bit.bor(known, tonumber(change.userRungs)))
  end
end
local function changeNotices(c, change)
  if not change.addNotices and not change.removeNotices then return end
  local notices = items(c[F.notices])
  appended(notices, unknownOf(notices, items(change.addNotices)))
  c[F.notices] = table.concat(unknownOf(items(change.removeNotices), notices), '\t')
end
local function addDrivers(c, change)
  if not change.addDrivers then return end
  local drivers, added = split(c[F.drivers], ','), split(change.addDrivers, ',')
  for index = 1, #drivers do
    local sum = tonumber(drivers[index]) + tonumber(added[index])
    if sum > MAX then refuse('what a driver comes to') end
    drivers[index] = text(sum)
  end
  c[F.drivers] = table.concat(drivers, ',')
end
local function countTurn(c, change)
  if change.turnAtMs then
    c[F.turns] = text(tonumber(c[F.turns]) + 1)
    if tonumber(change.turnAtMs) > tonumber(c[F.lastTurnAtMs]) then c[F.lastTurnAtMs] = change.turnAtMs end
  end
  -- Not of a question that was asked again while its first call was under way: whichever ends first has counted it.
  if change.addUserTurn and change.question ~= c[F.question] then c[F.userTurns] = text((tonumber(c[F.userTurns]) or 0) + 1) end
end
-- Of what has a time, the latest; the rest as it is told.
local function setLatest(c, change)
  for _, name in ipairs({ 'question', 'turnRungs', 'contractHash', 'contractPinnedAtMs' }) do
    if change[name] then c[F[name]] = change[name] end
  end
  if change.exact then
    local at, known = tonumber(change.exactAtMs), tonumber(c[F.exactAtMs])
    if not known or at > known or (at == known and tonumber(change.exactMessages) >= tonumber(c[F.exactMessages])) then
      c[F.exactAtMs], c[F.exactMessages], c[F.exact] = change.exactAtMs, change.exactMessages, change.exact
    end
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
end
-- Changes it in memory, and answers the alerts that are new: the session's, and the user's.
local function apply(talk, change)
  local c = talk.record
  openSession(c, change)
  dropOutdated(c, change)
  local fired, firedForUser = addAlerts(c, change), addUserAlerts(c, change)
  addEdits(talk, change)
  addRungs(talk, change)
  addUserRungs(c, change)
  changeNotices(c, change)
  addDrivers(c, change)
  talk.turnAtMs, talk.isQuietMoved = change.turnAtMs, (change.resolution or change.state or change.openSession) ~= nil
  countTurn(c, change)
  setLatest(c, change)
  return fired, firedForUser
end
`

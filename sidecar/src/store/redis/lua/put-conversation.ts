/** Writes a conversation after its change, in Lua: what the tier's day counts of it, and whether it awaits a resolution. */
import { LONE_PREFIX } from '../../../core/lone-call.ts'

export const PUT_CONVERSATION = String.raw`
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
local function isLoneCall(id)
  return string.sub(id, 1, ${LONE_PREFIX.length}) == '${LONE_PREFIX}'
end
local function awaitsResolution(id, c)
  if c[F.turns] == '0' or c[F.state] == 'ended' or isLoneCall(id) then return false end
  if c[F.resolution] == 'none' then return true end
  local resolved = tonumber(c[F.resolvedAtMs])
  return c[F.resolution] == 'reversed' and resolved ~= nil and tonumber(c[F.lastTurnAtMs]) > resolved
end
local function putQuiet(id, talk)
  if not (talk.turnAtMs or talk.isQuietMoved or talk.begins) then return end
  local c = talk.record
  local listed = quietKey(cjson.decode(c[F.tier]))
  if awaitsResolution(id, c) then
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
  -- Newest first, and by id among equals. Lone calls have a list of their own: there may be many times as many.
  call('ZADD', PREFIX .. (isLoneCall(id) and 'calls' or 'talks'), '-' .. c[F.lastTurnAtMs], id)
  putQuiet(id, talk)
end
`

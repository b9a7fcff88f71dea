/** Conversations, in Lua: how they are read, what histories lead to them, and where those are that have their home elsewhere. */
import { CONVERSATION_LIFE_MS } from '../../store.ts'
import { KEEP_SLACK_MS } from './step.ts'

export const CONVERSATIONS = String.raw`
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
`

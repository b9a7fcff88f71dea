/**
 * First of what scripts share, in Lua: the lengths of lives, how arguments are taken and texts are taken apart, how a script
 * refuses, and the clock and the tick of the tag.
 */
import { AMOUNT_MAX } from '../../../core/budget.ts'
import { RUNGS } from '@farebox/crds/ladder.ts'
import { CONVERSATION_LIFE_MS, ENDED_OPERATION_LIFE_MS, TOTALS_LIFE_DAYS } from '../../store.ts'
import { DAY_MS } from '../../../core/utc-day.ts'
import { FIELDS, FIRST_FIELDS } from '../conversation-record.ts'

/** Keys outlive what is in them by this much: the store's clock, not the server's, says when a life is over. */
export const KEEP_SLACK_MS = 24 * 3_600_000

/** A step this much behind the tag's clock may have been overtaken by its sender's void: only then is that looked up. */
const LATE_MS = 50

/** Marks what is thrown when a balance would go beyond `AMOUNT_MAX`. */
export const RANGE_MARK = 'FAREBOX_RANGE'
/** Marks a record that cannot be read. */
export const CORRUPT_MARK = 'FAREBOX_CORRUPT'

const END_BIT = 2 ** RUNGS.indexOf('EndConversation')

export const STEP = String.raw`
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
-- Of the two declared keys this is 'fb:<namespace>:{tag}:meta'; all of the tag are named after it, so they are in its slot.
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
-- Of what pcall gives. Anything else is the server's matter, as a right that was lost.
local function isDamage(failure)
  local reason = type(failure) == 'table' and failure.err or failure
  for _, mark in ipairs({ '${RANGE_MARK}', '${CORRUPT_MARK}', 'WRONGTYPE', 'user_script:' }) do
    if string.find(reason, mark, 1, true) then return true end
  end
  return false
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
-- What every script answers: clock and tick first, as tag.ts takes them off again.
local function reply(...)
  return { text(now), text(tick), ... }
end
`

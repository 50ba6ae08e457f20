#!lua flags=no-writes
-- Tell what has changed in cells since a place in each one's stream.
-- Call: EVALSHA per cell (one for all on a single Redis), two keys for each cell.
-- KEYS[2i-1]  hash    capacities; | -> the mark of a state that is whole
-- KEYS[2i]    stream  changes, ids mark-0, mark-1, ... without a gap
-- ARGV[i]     the place that the caller knows, an id or mark--1; '' when it knows nothing yet
-- Returns per cell "place guide load turn record ...", in order, up to that place, | standing for the cell with its clock for a
-- turn; or "place gap" when the caller has to read the cell as a whole: it knows nothing yet, or the stream no longer holds, or never held, what follows its place.
-- Raises NOSTATE when a cell has lost its mark: Redis has lost its state.
local function parts(id)
  local mark, number = string.match(id, '^(%d+)-(%-?%d+)$')
  return mark, tonumber(number)
end

local out = {}
for i = 1, #ARGV do
  local since = redis.call('HGET', KEYS[2 * i - 1], '|')
  if not since then return redis.error_reply('NOSTATE no mark in ' .. KEYS[2 * i - 1]) end
  local newest = redis.call('XREVRANGE', KEYS[2 * i], '+', '-', 'COUNT', 1)[1]
  local place = newest and newest[1] or since .. '--1' -- before the first one
  local mark, number = parts(place)
  local known_mark, known = parts(ARGV[i])
  local entries = {}
  if ARGV[i] ~= place and mark == known_mark and number > known then
    entries = redis.call('XRANGE', KEYS[2 * i], known < 0 and '-' or '(' .. ARGV[i], '+')
  end
  if ARGV[i] == place then
    out[i] = place
  elseif #entries == 0 or #entries < number - known then
    out[i] = place .. ' gap'
  else
    local news = {place}
    for n, entry in ipairs(entries) do news[n + 1] = entry[2][2] end
    out[i] = table.concat(news, ' ')
  end
end
return out

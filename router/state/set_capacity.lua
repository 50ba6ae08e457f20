#!lua
-- Tell one cell how many open attempts its guides may hold; an older version changes nothing.
-- Call: one EVALSHA per cell.
-- KEYS[1]    hash    guide -> version:capacity; | -> the mark of a state that is whole
-- KEYS[2]    hash    guide -> record, as in claim: who tells anything new of themselves, which the last 16 digits of a
--            version say, is no longer paused; an edit of the guide or the store ends no pause
-- KEYS[3]    stream  changes, as in claim; KEYS[4] sorted set open attempts, KEYS[5] hash turns
-- ARGV[1]    how many entries the changes hold, about
-- ARGV[3i-1] guide, ARGV[3i] version, ARGV[3i+1] capacity; a version may have more digits than a number holds
-- Returns how many were taken.
local function older(a, b) return #a < #b or #a == #b and a < b end

local function told(version) return tonumber(string.sub(version, -16)) end

local taken, news = 0, {}
for i = 1, (#ARGV - 1) / 3 do
  local guide, version = ARGV[3 * i - 1], ARGV[3 * i]
  local held = redis.call('HGET', KEYS[1], guide)
  local known = held and string.match(held, '^%d+')
  if not held or not older(version, known) then
    redis.call('HSET', KEYS[1], guide, version .. ':' .. ARGV[3 * i + 1])
    taken = taken + 1
    local record = held and told(known) < told(version) and redis.call('HGET', KEYS[2], guide)
    local before, at = string.match(record or '', '^(.*),%d+,[1-9]%d*,(%d+)$')
    if before then
      record = before .. ',0,0,' .. at
      redis.call('HSET', KEYS[2], guide, record)
      local load = redis.call('ZLEXCOUNT', KEYS[4], '[' .. guide .. '|', '(' .. guide .. '}')
      news[#news + 1] = table.concat({guide, load, redis.call('HGET', KEYS[5], guide) or '0', record}, ' ')
    end
  end
end
local mark = redis.call('HGET', KEYS[1], '|')
if mark and #news > 0 then
  table.sort(news)
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], mark .. '-*', 'g', table.concat(news, ' '))
end
return taken

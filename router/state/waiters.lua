#!lua flags=no-writes
-- Tell who waits longest in each queue and tier of cells.
-- Call: EVALSHA per cell (one for all on a single Redis).
-- KEYS[i]  sorted set  waiting leads, members queue|tier|arrival_ms|rung|kind|lead|member, all scores 0
-- ARGV[1]  how many of each queue and tier at most
-- Returns per cell the members, separated by blanks.
local out = {}
for i = 1, #KEYS do
  local found, from = {}, '-'
  while true do
    local first = redis.call('ZRANGEBYLEX', KEYS[i], from, '+', 'LIMIT', 0, 1)[1]
    if not first then break end
    local group = string.match(first, '^[^|]+|%d')
    local past = '(' .. group .. '}' -- '}' follows '|'
    for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[i], '[' .. group .. '|', past, 'LIMIT', 0, ARGV[1])) do
      found[#found + 1] = member
    end
    from = past
  end
  out[i] = table.concat(found, ' ')
end
return out

#!lua flags=no-writes
-- Tell who waits longest in each queue and tier of cells.
-- Call: EVALSHA per cell (one for all on a single Redis).
-- KEYS[i]  sorted set  waiting leads, members queue|tier|arrival_ms|rung|kind|lead|member, all scores 0
-- ARGV[1]  how many of each queue and tier at most
-- ARGV[1+i]  after how many of each queue and tier of cell i as many more are told: those behind whom nobody can serve
-- Returns per cell the members, separated by blanks.
local out = {}
for i = 1, #KEYS do
  local found, from = {}, '-'
  while true do
    local first = redis.call('ZRANGEBYLEX', KEYS[i], from, '+', 'LIMIT', 0, 1)[1]
    if not first then break end
    local group = string.match(first, '^[^|]+|%d')
    local past = '(' .. group .. '}' -- '}' follows '|'
    local function tell(after, most)
      for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[i], '[' .. group .. '|', past, 'LIMIT', after, most)) do
        found[#found + 1] = member
      end
    end
    tell(0, ARGV[1])
    if tonumber(ARGV[1 + i]) > 0 then tell(ARGV[1 + i], ARGV[1]) end
    from = past
  end
  out[i] = table.concat(found, ' ')
end
return out

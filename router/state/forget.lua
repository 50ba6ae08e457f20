#!lua
-- Take out of a sorted set what was due, unless it is due at a later time by now.
-- Call: EVALSHA per sorted set.
-- KEYS[1]    sorted set by epoch ms
-- ARGV[2i-1] member, ARGV[2i] when it was due
-- Returns how many were taken out.
local gone = 0
for i = 1, #ARGV / 2 do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[2 * i - 1])
  if at and tonumber(at) <= tonumber(ARGV[2 * i]) then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[2 * i - 1])
  end
end
return gone

#!lua
-- Tell one cell how many open attempts its guides may hold; an older version changes nothing.
-- Call: one EVALSHA per cell.
-- KEYS[1]    hash  guide -> version:capacity
-- ARGV[3i-2] guide, ARGV[3i-1] version, ARGV[3i] capacity
-- Returns how many were taken.
local taken = 0
for i = 1, #ARGV / 3 do
  local guide, version = ARGV[3 * i - 2], ARGV[3 * i - 1]
  local held = redis.call('HGET', KEYS[1], guide)
  local known = held and tonumber(string.match(held, '^(%d+):'))
  if not known or tonumber(version) >= known then
    redis.call('HSET', KEYS[1], guide, version .. ':' .. ARGV[3 * i])
    taken = taken + 1
  end
end
return taken

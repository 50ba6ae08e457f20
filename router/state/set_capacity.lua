#!lua
-- Tell one cell how many open attempts its guides may hold; an older version changes nothing.
-- Call: one EVALSHA per cell.
-- KEYS[1]    hash  guide -> version:capacity
-- ARGV[3i-2] guide, ARGV[3i-1] version, ARGV[3i] capacity; a version may have more digits than a number holds
-- Returns how many were taken.
local function older(a, b) return #a < #b or #a == #b and a < b end

local taken = 0
for i = 1, #ARGV / 3 do
  local guide, version = ARGV[3 * i - 2], ARGV[3 * i - 1]
  local held = redis.call('HGET', KEYS[1], guide)
  if not held or not older(version, string.match(held, '^%d+')) then
    redis.call('HSET', KEYS[1], guide, version .. ':' .. ARGV[3 * i])
    taken = taken + 1
  end
end
return taken

#!lua
-- Note who is responsible for each member; the latest word counts, a repeated one changes nothing.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]    hash  member: owner, owner_cell, owner_at
-- ARGV[3i-2] when, epoch ms; ARGV[3i-1] guide or '' for nobody; ARGV[3i] the guide's cell or ''
-- Returns how many changed.
local changed = 0
for i = 1, #KEYS do
  local at = tonumber(redis.call('HGET', KEYS[i], 'owner_at') or '-1')
  if tonumber(ARGV[3 * i - 2]) > at then
    redis.call('HSET', KEYS[i], 'owner', ARGV[3 * i - 1], 'owner_cell', ARGV[3 * i], 'owner_at', ARGV[3 * i - 2])
    changed = changed + 1
  end
end
return changed

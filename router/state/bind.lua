#!lua
-- Write contracts that were worked out of what was read, unless somebody has written since.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]    hash  member: facts, owner, owner_at, loan
-- ARGV[5i-4] the facts that were read, '' for none; ARGV[5i-3] the facts to write
-- ARGV[5i-2] owner or '' for nobody; ARGV[5i-1] since when, epoch ms; ARGV[5i] "guide|from|until" in epoch ms or ''
-- Returns per member 1, or 0 when it has to be read again.
local out = {}
for i = 1, #KEYS do
  local read, facts, owner, owner_at, loan = unpack(ARGV, 5 * i - 4, 5 * i)
  local same = (redis.call('HGET', KEYS[i], 'facts') or '') == read
  if same then
    redis.call('HSET', KEYS[i], 'facts', facts, 'owner', owner, 'owner_at', owner_at, 'loan', loan)
  end
  out[i] = same and 1 or 0
end
return out

#!lua
-- Keep of each (lead, seq) the assignment record that stands first in the log, whoever brings it when.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]    hash  journey of a lead: seq -> offset|record; all records of a lead are in one partition
-- ARGV[1]    how long a journey is kept, ms
-- ARGV[3i-1] seq, ARGV[3i] offset, ARGV[3i+1] record
-- Returns what is kept, in order.
local out = {}
for i = 1, #KEYS do
  local seq, mine = ARGV[3 * i - 1], ARGV[3 * i] .. '|' .. ARGV[3 * i + 1]
  local fresh = redis.call('HSETNX', KEYS[i], seq, mine) == 1
  local kept = fresh and mine or redis.call('HGET', KEYS[i], seq)
  if tonumber(ARGV[3 * i]) < tonumber(string.match(kept, '^%d+')) then
    redis.call('HSET', KEYS[i], seq, mine)
    kept = mine
  end
  if fresh then redis.call('PEXPIRE', KEYS[i], ARGV[1]) end
  out[i] = kept
end
return out

#!lua
-- Keep the first assignment record of each (lead, seq) and answer with the one that is kept.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]   hash  journey of a lead: seq -> record
-- ARGV[1]   how long a journey is kept, ms
-- ARGV[2i]  seq, ARGV[2i+1] record
-- Returns the records that are kept, in order.
local out = {}
for i = 1, #KEYS do
  if redis.call('HSETNX', KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]) == 1 then
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
    out[i] = ARGV[2 * i + 1]
  else
    out[i] = redis.call('HGET', KEYS[i], ARGV[2 * i])
  end
end
return out

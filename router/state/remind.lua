#!lua
-- Let reminders through to guides, to each at most so many a day; one that was let through may be sent again.
-- Call: EVALSHA per guide shard (one for all on a single Redis), a key for each reminder.
-- KEYS[i]     sorted set  reminded: lead -> when it was let through, epoch ms
-- ARGV[1]     now, epoch ms; ARGV[2] a day, ms
-- ARGV[2i+1]  lead; ARGV[2i+2] how many a day
-- Returns per reminder 1 or 0.
local out = {}
for i = 1, #KEYS do
  local lead, most = ARGV[2 * i + 1], tonumber(ARGV[2 * i + 2])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[1] - ARGV[2])
  out[i] = redis.call('ZSCORE', KEYS[i], lead) and 1 or 0
  if out[i] == 0 and redis.call('ZCARD', KEYS[i]) < most then
    redis.call('ZADD', KEYS[i], ARGV[1], lead)
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    out[i] = 1
  end
end
return out

#!lua
-- Note by whom members came: of each party only the first time, which is the one that counts; of all parties the
-- earliest. So nothing that comes later pushes out who was first, and repeats and any order end at the same.
-- Call: EVALSHA per member shard (one for all on a single Redis), a key for each time somebody came.
-- KEYS[i]     sorted set  origins: origin|event|party|sort of party -> when, epoch ms; an earlier one counts
-- ARGV[1]     how long these are kept after the last time, ms
-- ARGV[2]     how many parties are kept
-- ARGV[2i+1]  when, epoch ms; ARGV[2i+2] the entry
-- Returns nothing.
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'LT', ARGV[2 * i + 1], ARGV[2 * i + 2])
  local seen, parties = {}, 0
  for _, entry in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do
    local party = string.match(entry, '[^|]*|[^|]*$')
    if seen[party] or parties == tonumber(ARGV[2]) then
      redis.call('ZREM', KEYS[i], entry)
    else
      seen[party], parties = true, parties + 1
    end
  end
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
end

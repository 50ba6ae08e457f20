#!lua
-- Note what members did and what was done for them; the newest are kept, so repeats and any order end at the same.
-- Call: EVALSHA per member shard (one for all on a single Redis), three keys for each touch.
-- KEYS[3i-2]  sorted set  acts: guide -> when, epoch ms; | -> when the member did something; a later one counts
-- KEYS[3i-1]  sorted set  contacts: touch -> when the member was contacted
-- KEYS[3i]    sorted set  track: touch|kind|direction|guide|sharer -> when
-- ARGV[1]     how long these are kept after the last touch, ms
-- ARGV[2]     how many guides are kept, ARGV[3] how many contacts, ARGV[4] how much of the track
-- ARGV[5i]    when, epoch ms; ARGV[5i+1] the entry of the track; ARGV[5i+2] the guide who acted or ''
-- ARGV[5i+3]  the touch where the member was contacted, else ''; ARGV[5i+4] "1" when the member did something
-- Returns nothing.
local function note(key, at, name, most)
  redis.call('ZADD', key, 'GT', at, name)
  if most then redis.call('ZREMRANGEBYRANK', key, 0, -1 - most) end
  redis.call('PEXPIRE', key, ARGV[1])
end

for i = 1, #KEYS / 3 do
  local acts, contacts, track = KEYS[3 * i - 2], KEYS[3 * i - 1], KEYS[3 * i]
  local at, entry, actor, contact, came_in = unpack(ARGV, 5 * i, 5 * i + 4)
  note(track, at, entry, tonumber(ARGV[4]))
  if contact ~= '' then note(contacts, at, contact, tonumber(ARGV[3])) end
  if came_in == '1' then note(acts, at, '|') end
  if actor ~= '' then
    note(acts, at, actor)
    local guides = redis.call('ZCARD', acts) - (redis.call('ZSCORE', acts, '|') and 1 or 0)
    if guides > tonumber(ARGV[2]) then
      local oldest = redis.call('ZRANGE', acts, 0, 1)
      redis.call('ZREM', acts, oldest[1] == '|' and oldest[2] or oldest[1])
    end
  end
end

#!lua
-- Note which open lead of a member asks for what, so that another one for the same is told of it.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]    hash  what is asked for -> kind|lead|until_ms
-- ARGV[1]    how long it is kept, ms
-- ARGV[4i-2] what is asked for, ARGV[4i-1] kind|lead, ARGV[4i] how long it stands for the same, ms
-- ARGV[4i+1] the kind|lead whose place it takes if that one stands there still: it is closed; '' for none
-- Returns per lead "kind|lead|age_ms" of the one that stands there already and for how long, '' when it is the first, the
-- same, or has taken the place.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {}
for i = 1, #KEYS do
  local what, lead, window_ms, instead = unpack(ARGV, 4 * i - 2, 4 * i + 1)
  local held, until_ms = string.match(redis.call('HGET', KEYS[i], what) or '', '^(.*)|(%d+)$')
  if held and held ~= lead and tonumber(until_ms) > now_ms and held ~= instead then
    out[i] = held .. '|' .. string.format('%d', math.max(now_ms - until_ms + window_ms, 0))
  else
    if held ~= lead then
      redis.call('HSET', KEYS[i], what, lead .. '|' .. string.format('%d', now_ms + window_ms))
      redis.call('PEXPIRE', KEYS[i], ARGV[1])
    end
    out[i] = ''
  end
end
return out

#!lua
-- Where feeds end.
-- Call: EVALSHA per guide shard (one for many on a single Redis).
-- KEYS[i]  stream  feed of a guide
-- Returns the id of the newest entry of each, 0-0 where there is none.
local out = {}
for i = 1, #KEYS do
  local newest = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)
  out[i] = newest[1] and newest[1][1] or '0-0'
end
return out

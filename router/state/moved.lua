#!lua
-- Which feeds go on behind known places.
-- Call: EVALSHA per guide shard (one for many on a single Redis).
-- KEYS[i]  stream  feed of a guide
-- ARGV[i]  a place in it
-- Returns the keys of those with anything behind their place; one XREAD is a third of the cost of asking each.
local call = { 'XREAD', 'COUNT', 1, 'STREAMS' }
for i = 1, #KEYS do
  call[4 + i] = KEYS[i]
  call[4 + #KEYS + i] = ARGV[i]
end
local out = {}
for i, feed in ipairs(redis.call(unpack(call)) or {}) do out[i] = feed[1] end
return out

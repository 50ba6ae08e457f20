#!lua
-- Forget what leads have asked for: they are closed.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]  hash  what is asked for -> kind|lead|until_ms
-- ARGV[i]  kind|lead
-- Returns how many were forgotten.
local gone = 0
for i = 1, #KEYS do
  local held = redis.call('HGETALL', KEYS[i])
  for at = 1, #held, 2 do
    if string.match(held[at + 1], '^(.*)|%d+$') == ARGV[i] then gone = gone + redis.call('HDEL', KEYS[i], held[at]) end
  end
end
return gone

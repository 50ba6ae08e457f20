#!lua
-- Mark cells whose state is whole, so that claims go on in them; or only tell which are.
-- Call: EVALSHA per cell (one for all on a single Redis), two keys for each cell.
-- KEYS[2i-1]  hash    capacities; | -> since when the cell is whole, epoch ms
-- KEYS[2i]    stream  changes: begins anew with a mark, whose clock may be behind that of the one before
-- ARGV[1]     "1" to mark, "0" to ask
-- Returns per cell 1 when it was marked before, else 0.
local time = redis.call('TIME')
local now_ms = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local out = {}
for i = 1, #KEYS / 2 do
  out[i] = redis.call('HEXISTS', KEYS[2 * i - 1], '|')
  if ARGV[1] == '1' and out[i] == 0 then
    redis.call('HSET', KEYS[2 * i - 1], '|', now_ms)
    redis.call('DEL', KEYS[2 * i])
  end
end
return out

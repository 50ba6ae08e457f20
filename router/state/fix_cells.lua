#!lua
-- Fix the cell of each routing request, once; whoever asks for it again keeps it remembered.
-- Call: EVALSHA per shard of requests (one for all on a single Redis).
-- KEYS[i]    string  the request's cell
-- ARGV[1]    how long a cell is remembered, ms
-- ARGV[2]    "1" to overrule what is fixed: Redis has lost its state and the log knows better
-- ARGV[2+i]  the cell to take when none is fixed yet
-- Returns {epoch ms, cell 1, cell 2, ...}.
local time = redis.call('TIME')
local out = {time[1] * 1000 + math.floor(time[2] / 1000)}
for i = 1, #KEYS do
  local cell = ARGV[2] == '0' and redis.call('GETEX', KEYS[i], 'PX', ARGV[1])
  if not cell then
    cell = ARGV[2 + i]
    redis.call('SET', KEYS[i], cell, 'PX', ARGV[1])
  end
  out[1 + i] = cell
end
return out

#!lua flags=no-writes
-- Tell the time of the servers that hold some cells: on a cluster each has a clock of its own.
-- Call: EVALSHA per cell (one for all on a single Redis).
-- KEYS[i]  a key of cell i
-- Returns per cell the epoch, ms.
local time, out = redis.call('TIME'), {}
for i = 1, #KEYS do out[i] = time[1] * 1000 + math.floor(time[2] / 1000) end
return out

#!lua
-- Fix the cell of each routing request and read what its member's state says.
-- Call: one EVALSHA for a batch, two keys for each request.
-- KEYS[2i-1]  hash    member: owner, owner_cell
-- KEYS[2i]    string  the request's cell, set once
-- ARGV[1]     how long a cell is remembered, ms
-- ARGV[2i]    the cell to take when none is fixed yet
-- ARGV[2i+1]  "1" when the owner's cell comes before that one
-- Returns {unix seconds, microseconds, cell 1, owner 1, cell 2, owner 2, ...}; no owner is ''.
local time = redis.call('TIME')
local out = {time[1], time[2]}
for i = 1, #KEYS / 2 do
  local held = redis.call('HMGET', KEYS[2 * i - 1], 'owner', 'owner_cell')
  local cell = redis.call('GET', KEYS[2 * i])
  if not cell then
    cell = ARGV[2 * i]
    if ARGV[2 * i + 1] == '1' and held[2] and held[2] ~= '' then cell = held[2] end
    redis.call('SET', KEYS[2 * i], cell, 'PX', ARGV[1])
  end
  out[#out + 1] = cell
  out[#out + 1] = held[1] or ''
end
return out

#!lua
-- Shrink what a cell holds of leads that have left it and are claimed elsewhere: a late claim is refused by what stays.
-- Call: one EVALSHA per cell; to call it again changes nothing.
-- KEYS[i]    hash  lead i, as in claim; of one that has left only q and to stay
-- ARGV[1]    how long they stay, ms
-- ARGV[2i]   the cell for which it has left
-- ARGV[2i+1] its newest seq at that time: it may have come back, and left again
-- Returns how many have shrunk.
local shrunk = 0
for i = 1, #KEYS do
  local key, to, seq = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
  local held = redis.call('HMGET', key, 'q', 'to')
  if held[1] == seq and held[2] == to then
    redis.call('DEL', key)
    redis.call('HSET', key, 'q', seq, 'to', to)
    redis.call('PEXPIRE', key, ARGV[1])
    shrunk = shrunk + 1
  end
end
return shrunk

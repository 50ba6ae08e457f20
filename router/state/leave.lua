#!lua
-- Let leads that wait leave their cell for another one, where the next claim goes on with what is told here.
-- Call: one EVALSHA per cell; to call it again tells the same.
-- KEYS[1]    sorted set  waiting leads, as in claim
-- KEYS[2]    sorted set  when something is due, as in claim
-- KEYS[2+i]  hash        lead i, as in claim; to -> the cell for which it has left
-- ARGV[1]    now, epoch ms
-- ARGV[3i-1] lead i as kind|lead|member
-- ARGV[3i]   the cell to leave for
-- ARGV[3i+1] how often it was offered; a lead that is offered or over by now stays, as one whose time to wait is not
--            over; who has left once is gone
-- Returns per lead the fields of its hash, name and value in turn, with the cell that it left for the first time; nothing
-- for one that stays.
local out = {}
for i = 1, #KEYS - 2 do
  local key, whom, cell, attempt = KEYS[2 + i], unpack(ARGV, 3 * i - 1, 3 * i + 1)
  local seq = redis.call('HGET', key, 'q')
  local state, tries, by, choice = string.match(seq and redis.call('HGET', key, seq) or '', '^(%S+) (%S+) %S+ (%S+) .* (%S+)$')
  local gone = redis.call('HGET', key, 'to')
  if state == 'waiting' and tries == attempt and (gone or tonumber(by) <= tonumber(ARGV[1])) then
    redis.call('HSETNX', key, 'to', cell)
    redis.call('ZREM', KEYS[1], choice .. '|' .. whom)
    redis.call('ZREM', KEYS[2], whom)
    out[i] = redis.call('HGETALL', key)
  else
    out[i] = {}
  end
end
return out

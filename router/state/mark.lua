#!lua
-- Mark cells whose state is whole, so that claims go on in them; a token tells whether state was lost on the way there.
-- Call: EVALSHA per cell (one for all on a single Redis), two keys for each cell.
-- KEYS[2i-1]  hash    capacities; | -> since when the cell is whole, epoch ms; |t -> token
-- KEYS[2i]    stream  changes: begins anew with a mark, whose clock may be behind that of the one before
-- ARGV[1]     ask, begin or end
-- ARGV[1+i]   begin: the token to take when there is none; end: the one that begin has returned; ask: ''
-- Returns per cell: ask, whether it is marked; begin, its token; end, whether it is marked now, which it is not where
-- the token is another one. '' stands for no.
local time = redis.call('TIME')
local now_ms = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local out = {}
for i = 1, #KEYS / 2 do
  local cell, changes, token = KEYS[2 * i - 1], KEYS[2 * i], ARGV[1 + i]
  if ARGV[1] == 'begin' then
    redis.call('HSETNX', cell, '|t', token)
    out[i] = redis.call('HGET', cell, '|t')
  elseif ARGV[1] == 'end' and redis.call('HGET', cell, '|t') == token and redis.call('HSETNX', cell, '|', now_ms) == 1 then
    redis.call('DEL', changes)
    out[i] = now_ms
  else
    local known = ARGV[1] == 'ask' or redis.call('HGET', cell, '|t') == token
    out[i] = known and redis.call('HGET', cell, '|') or ''
  end
end
return out

#!lua flags=no-writes
-- Read who is responsible for each member, and what guides and the member did last.
-- Call: EVALSHA per member shard (one for all on a single Redis), two keys for each member.
-- KEYS[2i-1]  hash        member: owner, owner_at, loan
-- KEYS[2i]    sorted set  acts: guide -> when, epoch ms; | -> when the member did something
-- Returns {epoch ms, ...} with per member "owner|since|borrower|from|until name when name when ...", the latest act
-- first; what is not known is empty, and all of it for a member of whom nothing is.
local time = redis.call('TIME')
local out = {time[1] * 1000 + math.floor(time[2] / 1000)}
for i = 1, #KEYS / 2 do
  local held = redis.call('HMGET', KEYS[2 * i - 1], 'owner', 'owner_at', 'loan')
  local acts = redis.call('ZREVRANGE', KEYS[2 * i], 0, -1, 'WITHSCORES')
  local text = ''
  if held[1] or acts[1] then
    local loan = held[3] and held[3] ~= '' and held[3] or '||'
    text = (held[1] or '') .. '|' .. (held[2] or '') .. '|' .. loan
    if acts[1] then text = text .. ' ' .. table.concat(acts, ' ') end
  end
  out[1 + i] = text
end
return out

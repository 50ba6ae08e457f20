#!lua flags=no-writes
-- Read who is responsible for each member.
-- Call: EVALSHA per member shard (one for all on a single Redis).
-- KEYS[i]  hash  member: owner, owner_cell
-- Returns per member "owner owner_cell"; what is not known is empty.
local out = {}
for i = 1, #KEYS do
  local held = redis.call('HMGET', KEYS[i], 'owner', 'owner_cell')
  out[i] = (held[1] or '') .. ' ' .. (held[2] or '')
end
return out

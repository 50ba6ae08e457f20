#!lua
-- Make leads of one cell what the log says: where Redis knows less, or another answer for the same seq, the log is right.
-- Call: one EVALSHA per cell; to call it again changes nothing.
-- KEYS[1]    sorted set  open attempts, members guide|kind|lead, all scores 0
-- KEYS[2]    hash        guide -> version:capacity; | -> the mark of a state that is whole
-- KEYS[3]    sorted set  waiting leads by arrival, members queue|kind|lead
-- KEYS[4]    stream      changes, as in claim; untouched without a mark, which makes everybody read the cell anew
-- KEYS[4+i]  hash        lead i: s(tate), q (seq), n (attempt), a(nswer), d(igest)
-- ARGV[1]    how long a lead is remembered, ms
-- ARGV[2]    how many entries the changes hold, about
-- ARGV[8i-5] lead i as kind|lead; then state, seq, attempt, answer, digest,
--            the guide who holds it or '', its arrival in ms
-- Returns how many leads were changed.
local open, waiting, changes = KEYS[1], KEYS[3], KEYS[4]
local mark = redis.call('HGET', KEYS[2], '|')
local touched, changed = {}, 0

local function release(lead, answer)
  local state, choice = string.match(answer, '^(%S+) .* (%S+)$')
  if state == 'waiting' then
    redis.call('ZREM', waiting, choice .. '|' .. lead)
  else
    local guide = string.match(choice, '^[^|]+')
    touched[guide] = redis.call('ZREM', open, guide .. '|' .. lead) == 1 or touched[guide]
  end
end

for i = 1, #KEYS - 4 do
  local lead, state, seq, attempt, answer, digest, guide, arrival = unpack(ARGV, 8 * i - 5, 8 * i + 2)
  local held = redis.call('HMGET', KEYS[4 + i], 'q', 'a', 'd')
  local known = tonumber(held[1] or '0')
  if known < tonumber(seq) or known == tonumber(seq) and (held[2] ~= answer or held[3] ~= digest) then
    if held[2] then release(lead, held[2]) end
    redis.call('HSET', KEYS[4 + i], 's', state, 'q', seq, 'n', attempt, 'a', answer, 'd', digest)
    redis.call('PEXPIRE', KEYS[4 + i], ARGV[1])
    changed = changed + 1
  end
  if known <= tonumber(seq) then
    if guide ~= '' then
      touched[guide] = redis.call('ZADD', open, 0, guide .. '|' .. lead) == 1 or touched[guide]
    elseif state == 'waiting' then
      redis.call('ZADD', waiting, arrival, string.match(answer, '(%S+)$') .. '|' .. lead)
    end
  end
end

local news = {}
for guide, moved in pairs(touched) do
  if moved then
    news[#news + 1] = guide .. ' ' .. redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}')
  end
end
if mark and #news > 0 then
  table.sort(news)
  redis.call('XADD', changes, 'MAXLEN', '~', ARGV[2], mark .. '-*', 'g', table.concat(news, ' '))
end
return changed

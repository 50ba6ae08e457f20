#!lua
-- Make leads of one cell what the log says: where Redis knows less, or another answer for the same seq, the log is right.
-- Call: one EVALSHA per cell; to call it again changes nothing.
-- KEYS[1]    sorted set  open attempts, members guide|kind|lead, all scores 0
-- KEYS[2]    hash        guide -> version:capacity; | -> the mark of a state that is whole
-- KEYS[3]    sorted set  waiting leads by arrival, members queue|kind|lead
-- KEYS[4]    stream      changes, as in claim; untouched without a mark, which makes everybody read the cell anew
-- KEYS[5]    hash        guide -> turn; | -> the cell's clock: the highest that the log has count
-- KEYS[5+i]  hash        lead i: s(tate), q (seq), n (attempt), a(nswer), d(igest)
-- ARGV[1]    how long a lead is remembered, ms
-- ARGV[2]    how many entries the changes hold, about
-- ARGV[9i-6] lead i as kind|lead; then state, seq, attempt, answer, digest, the guide who holds it or '',
--            its arrival in ms, and "guide start turn" where the record says whose turn it was, else ''
-- Returns how many leads were changed.
local open, waiting, changes, turns = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
local mark = redis.call('HGET', KEYS[2], '|')
local moved, changed = {}, 0

local function release(lead, answer)
  local state, choice = string.match(answer, '^(%S+) .* (%S+)$')
  if state == 'waiting' then
    redis.call('ZREM', waiting, choice .. '|' .. lead)
  else
    local guide = string.match(choice, '^[^|]+')
    if redis.call('ZREM', open, guide .. '|' .. lead) == 1 then moved[guide] = true end
  end
end

local function raise(name, to)
  if tonumber(redis.call('HGET', turns, name) or '-1') < tonumber(to) then
    redis.call('HSET', turns, name, to)
    moved[name] = true
  end
end

for i = 1, #KEYS - 5 do
  local lead, state, seq, attempt, answer, digest, guide, arrival, turn = unpack(ARGV, 9 * i - 6, 9 * i + 2)
  local held = redis.call('HMGET', KEYS[5 + i], 'q', 'a', 'd')
  local known = tonumber(held[1] or '0')
  if known < tonumber(seq) or known == tonumber(seq) and (held[2] ~= answer or held[3] ~= digest) then
    if held[2] then release(lead, held[2]) end
    redis.call('HSET', KEYS[5 + i], 's', state, 'q', seq, 'n', attempt, 'a', answer, 'd', digest)
    redis.call('PEXPIRE', KEYS[5 + i], ARGV[1])
    changed = changed + 1
  end
  if known <= tonumber(seq) then
    if guide ~= '' then
      if redis.call('ZADD', open, 0, guide .. '|' .. lead) == 1 then moved[guide] = true end
    elseif state == 'waiting' then
      redis.call('ZADD', waiting, arrival, string.match(answer, '(%S+)$') .. '|' .. lead)
    end
  end
  if turn ~= '' then
    local whose, start, stop = string.match(turn, '^(%S+) (%S+) (%S+)$')
    raise(whose, stop)
    raise('|', start)
  end
end

if mark and next(moved) then
  local news = {}
  for guide in pairs(moved) do
    local load = redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}')
    news[#news + 1] = guide .. ' ' .. load .. ' ' .. (redis.call('HGET', turns, guide) or '0')
  end
  table.sort(news)
  redis.call('XADD', changes, 'MAXLEN', '~', ARGV[2], mark .. '-*', 'g', table.concat(news, ' '))
end
return changed

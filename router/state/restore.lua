#!lua
-- Make leads of one cell what the log says: where Redis knows less, or another answer for the same seq, the log is right.
-- Call: one EVALSHA per cell; to call it again changes nothing.
-- KEYS[1..8] the keys of the cell, as in claim: open, capacity, waiting, changes, turns, due, records, slots
-- KEYS[8+i]  hash        lead i, as in claim
-- ARGV[1]    how long a lead is remembered, ms
-- ARGV[2]    how many entries the changes hold, about
-- ARGV[9i-6] lead i as kind|lead|member; then seq, answer, digest ('' where the record has none), the guide who holds it or '',
--            when something is due for it (epoch ms) or '', and "guide start turn" and "guide record" where the log has them, else '';
--            the slots that it holds from then on, "store|service|start_ms ...", - for none, '' for those that it has
-- Returns how many leads were changed.
local FINAL = {won = true, lost = true, withdrawn = true, closed = true}
local open, capacity, waiting, changes, turns, due, records, slots = unpack(KEYS, 1, 8)
local mark = redis.call('HGET', capacity, '|')
local moved, changed = {}, 0

local function release(whom, answer)
  local state, choice = string.match(answer, '^(%S+) .* (%S+)$')
  if not state then return end -- it has left, and is at home elsewhere
  if state == 'waiting' then
    redis.call('ZREM', waiting, choice .. '|' .. whom)
  else
    local guide = string.match(choice, '^[^|]+')
    if redis.call('ZREM', open, guide .. '|' .. whom) == 1 then moved[guide] = true end
  end
end

local function raise(name, to)
  if tonumber(redis.call('HGET', turns, name) or '-1') < tonumber(to) then
    redis.call('HSET', turns, name, to)
    moved[name] = true
  end
end

-- Whether a later step than this one tells what slots a lead holds: the last of all, or another version where any are held.
local function told(key, seq, known, version, slots_held)
  for at = seq + 1, known do
    local later = redis.call('HGET', key, string.format('%d', at)) or ''
    local its = string.match(later, ' reservation/(%d+)|')
    if FINAL[string.match(later, '^%S*')] or slots_held and its and its ~= version then return true end
  end
  return false
end

for i = 1, #KEYS - 8 do
  local whom, seq, answer, digest, guide, ends, turn, record, holds = unpack(ARGV, 9 * i - 6, 9 * i + 2)
  local key = KEYS[8 + i]
  local version = string.match(answer, ' reservation/(%d+)|')
  local its_digest = 'd' .. (version or '')
  local held = redis.call('HMGET', key, 'q', its_digest, seq, 'h', 'v', 'to')
  local known = tonumber(held[1] or '0')
  if held[3] ~= answer or digest ~= '' and held[2] ~= digest or known < tonumber(seq) then
    if known > 0 and known <= tonumber(seq) then release(whom, redis.call('HGET', key, known) or '') end
    redis.call('HSET', key, seq, answer, 'q', string.format('%d', math.max(known, tonumber(seq))))
    if digest ~= '' then redis.call('HSET', key, its_digest, digest) end
    redis.call('PEXPIRE', key, ARGV[1])
    changed = changed + 1
  end
  if not held[6] then -- one that left holds nothing here
    local newest = known <= tonumber(seq)
    if newest then
      if guide ~= '' then
        if redis.call('ZADD', open, 0, guide .. '|' .. whom) == 1 then moved[guide] = true end
      elseif string.match(answer, '^waiting ') then
        redis.call('ZADD', waiting, 0, string.match(answer, '(%S+)$') .. '|' .. whom)
      end
      if ends == '' then redis.call('ZREM', due, whom) else redis.call('ZADD', due, ends, whom) end
    end
    -- what a step tells of slots and version holds until a later one tells otherwise, whichever is restored first
    if holds ~= '' and (newest or not told(key, tonumber(seq), known, version, held[4])) then
      for slot in string.gmatch(held[4] or '', '%S+') do redis.call('ZREM', slots, slot .. '|' .. whom) end
      if holds == '-' then holds = '' end
      for slot in string.gmatch(holds, '%S+') do redis.call('ZADD', slots, 0, slot .. '|' .. whom) end
      if held[4] or holds ~= '' then redis.call('HSET', key, 'h', holds) end
    end
    if version and tonumber(version) > tonumber(held[5] or '0') then redis.call('HSET', key, 'v', version) end
  end
  if turn ~= '' then
    local whose, start, stop = string.match(turn, '^(%S+) (%S+) (%S+)$')
    raise(whose, stop)
    raise('|', start)
  end
  if record ~= '' then
    local whose, its = string.match(record, '^(%S+) (%S+)$')
    local old = redis.call('HGET', records, whose)
    if not old or tonumber(string.match(old, '%d+$')) < tonumber(string.match(its, '%d+$')) then
      redis.call('HSET', records, whose, its)
      moved[whose] = true
    end
  end
end

if mark and next(moved) then
  local news = {}
  for guide in pairs(moved) do
    local load = redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}')
    local record = redis.call('HGET', records, guide) or '-'
    news[#news + 1] = table.concat({guide, load, redis.call('HGET', turns, guide) or '0', record}, ' ')
  end
  table.sort(news)
  redis.call('XADD', changes, 'MAXLEN', '~', ARGV[2], mark .. '-*', 'g', table.concat(news, ' '))
end
return changed

#!lua
-- Let leads leave their cell for another one, where the next claim goes on with what is told here.
-- Call: one EVALSHA per cell; to call it again tells the same.
-- KEYS[1..8] the keys of the cell, as in claim: open, capacity, waiting, changes, turns, due, records, slots
-- KEYS[8+i]  hash        lead i, as in claim; to -> the cell for which it has left
-- ARGV[1]    now, epoch ms
-- ARGV[2]    how many entries the changes hold, about
-- ARGV[4i-1] lead i as kind|lead|member
-- ARGV[4i]   the cell to leave for
-- ARGV[4i+1] how often it was offered; a lead that is offered or over by now stays, as one whose time to wait is not
--            over; who has left once is gone
-- ARGV[4i+2] '' or the version of a reservation that brings it elsewhere: it leaves whatever its state and its time, unless
--            it is over or this version is not later than what is known; its guide and its slots are free from then on
-- Returns per lead the fields of its hash, name and value in turn, with the cell that it left for the first time; nothing
-- for one that stays.
local open, capacity, waiting, changes, turns, due, records, slots = unpack(KEYS, 1, 8)
local FINAL = {won = true, lost = true, withdrawn = true, closed = true}
local out, freed = {}, {}
for i = 1, #KEYS - 8 do
  local key, whom, cell, attempt, version = KEYS[8 + i], unpack(ARGV, 4 * i - 1, 4 * i + 2)
  local held = redis.call('HMGET', key, 'q', 'to', 'v', 'h')
  local answer = held[1] and redis.call('HGET', key, held[1]) or ''
  local state, tries, by, choice = string.match(answer, '^(%S+) (%S+) %S+ (%S+) .* (%S+)$')
  local gone, leaves = held[2], false
  if version == '' then
    leaves = state == 'waiting' and tries == attempt and (gone or tonumber(by) <= tonumber(ARGV[1]))
  elseif state and not FINAL[state] then
    leaves = gone or tonumber(version) > tonumber(held[3] or '0')
  end
  out[i] = {}
  if leaves then
    redis.call('HSETNX', key, 'to', cell)
    redis.call('ZREM', due, whom)
    local guide = string.match(choice, '^[^|]+')
    if state == 'waiting' then
      redis.call('ZREM', waiting, choice .. '|' .. whom)
    elseif redis.call('ZREM', open, guide .. '|' .. whom) == 1 then
      freed[guide] = true
    end
    for slot in string.gmatch(held[4] or '', '%S+') do redis.call('ZREM', slots, slot .. '|' .. whom) end
    out[i] = redis.call('HGETALL', key)
  end
end

local mark = redis.call('HGET', capacity, '|')
if mark and next(freed) then
  local news = {}
  for guide in pairs(freed) do
    local load = redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}')
    local record = redis.call('HGET', records, guide) or '-'
    news[#news + 1] = table.concat({guide, load, redis.call('HGET', turns, guide) or '0', record}, ' ')
  end
  table.sort(news)
  redis.call('XADD', changes, 'MAXLEN', '~', ARGV[2], mark .. '-*', 'g', table.concat(news, ' '))
end
return out

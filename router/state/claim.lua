#!lua
-- Give each lead of one cell to the first guide of its shortlist who has room; else the lead waits.
-- Call: one EVALSHA per cell and batch, leads in the order in which they may choose.
-- KEYS[1]    sorted set  open attempts, members guide|kind|lead, all scores 0
-- KEYS[2]    hash        guide -> version:capacity; | -> the mark of a state that is whole
-- KEYS[3]    sorted set  waiting leads by arrival, members queue|kind|lead
-- KEYS[4]    stream      changes, ids mark-0, mark-1, ... without a gap: of one call "| 0 clock guide load turn ..."
-- KEYS[5]    hash        guide -> turn; | -> the cell's clock; see scoring/fairness.py
-- KEYS[5+i]  hash        lead i: s(tate), q (seq), n (attempt), a(nswer), d(igest)
-- ARGV[1]    how long a lead is remembered, ms
-- ARGV[2]    how many entries the changes hold, about
-- ARGV[3]    the mark that the caller has seen, which a call from before a loss shows too late; ? when it has seen
--            none yet; '' for a cell of a brand that nobody knows, which has none
-- ARGV[4]    how far a turn may be behind the clock
-- ARGV[4i+1] lead i as kind|lead
-- ARGV[4i+2] digest of its content: the same id with other content is a conflict
-- ARGV[4i+3] shortlist, best first: "guide|step|rest guide|step|rest ..." (rest is kept with the answer, unread)
-- ARGV[4i+4] "arrival_ms queue terms": terms are kept with the answer, unread
-- Returns per lead {result, seq, attempt, answer}: result is ok, waiting, replay or conflict; the answer is
-- "state terms start choice", choice being the shortlist's entry or the queue, start where the guide's turn began or 0.
-- Raises NOSTATE before any write when the cell has lost its mark: Redis has lost its state.
local open, capacity, waiting, changes, turns = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mark = redis.call('HGET', capacity, '|')
if ARGV[3] ~= '' and (not mark or ARGV[3] ~= '?' and ARGV[3] ~= mark) then
  return redis.error_reply('NOSTATE no such mark in ' .. capacity)
end
local most, load, turn = {}, {}, {} -- by guide, read once per call
local clock, horizon = tonumber(redis.call('HGET', turns, '|') or '0'), tonumber(ARGV[4])

local function has_room(guide)
  if most[guide] == nil then
    local held = redis.call('HGET', capacity, guide)
    most[guide] = held and tonumber(string.match(held, ':(%d+)$')) or 0
    -- '}' follows '|': the range holds exactly the attempts of this guide
    load[guide] = most[guide] > 0 and redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}') or 0
  end
  return load[guide] < most[guide]
end

local function take_turn(guide, step)
  local start = math.max(turn[guide] or tonumber(redis.call('HGET', turns, guide) or '0'), clock - horizon)
  turn[guide], clock = start + step, math.max(clock, start)
  return string.format('%d', start)
end

-- Members of a sorted set are written many at a time; Lua's stack bounds how many.
local function add(key, list, most)
  if #list > most then redis.call('ZADD', key, unpack(list)) return {} end
  return list
end

local out, opened, parked = {}, {}, {}
for i = 1, #KEYS - 5 do
  local key, lead, digest = KEYS[5 + i], ARGV[4 * i + 1], ARGV[4 * i + 2]
  local held = redis.call('HMGET', key, 'q', 'n', 'a', 'd')
  if held[1] then
    out[i] = {held[4] == digest and 'replay' or 'conflict', tonumber(held[1]), tonumber(held[2]), held[3]}
  else
    local arrival, queue, terms = string.match(ARGV[4 * i + 4], '^(%S+) (%S+) (.*)$')
    local state, start, choice = 'waiting', '0', queue
    for entry in string.gmatch(ARGV[4 * i + 3], '%S+') do
      local guide, step = string.match(entry, '^([^|]+)|(%d+)')
      if has_room(guide) then
        load[guide] = load[guide] + 1
        opened[#opened + 1] = 0
        opened[#opened + 1] = guide .. '|' .. lead
        state, start, choice = 'offered', take_turn(guide, tonumber(step)), entry
        break
      end
    end
    if state == 'waiting' then
      parked[#parked + 1] = arrival
      parked[#parked + 1] = queue .. '|' .. lead
    end
    local attempt = state == 'offered' and 1 or 0
    local answer = state .. ' ' .. terms .. ' ' .. start .. ' ' .. choice
    redis.call('HSET', key, 's', state, 'q', 1, 'n', attempt, 'a', answer, 'd', digest)
    redis.call('PEXPIRE', key, ARGV[1])
    out[i] = {state == 'offered' and 'ok' or 'waiting', 1, attempt, answer}
    opened, parked = add(open, opened, 1000), add(waiting, parked, 1000)
  end
end
add(open, opened, 0)
add(waiting, parked, 0)
if next(turn) then
  local now = string.format('%d', clock)
  local news = {'| 0 ' .. now}
  redis.call('HSET', turns, '|', now)
  for guide, its in pairs(turn) do
    its = string.format('%d', its)
    redis.call('HSET', turns, guide, its)
    news[#news + 1] = guide .. ' ' .. load[guide] .. ' ' .. its
  end
  if mark then
    table.sort(news)
    redis.call('XADD', changes, 'MAXLEN', '~', ARGV[2], mark .. '-*', 'g', table.concat(news, ' '))
  end
end
return out

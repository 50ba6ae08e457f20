#!lua
-- Give leads of one cell to guides who have room, follow what happens to them, let them wait; each step once by its cause.
-- Call: one EVALSHA per cell and batch, leads in the order in which they may choose.
-- KEYS[1]    sorted set  open attempts, members guide|kind|lead|member, all scores 0
-- KEYS[2]    hash        guide -> version:capacity; | -> the mark of a state that is whole
-- KEYS[3]    sorted set  waiting leads, members queue|tier|arrival_ms|rung|kind|lead|member, all scores 0
-- KEYS[4]    stream      changes, ids mark-0, mark-1, ... without a gap: of one call "| 0 clock - guide load turn record ..."
-- KEYS[5]    hash        guide -> turn; | -> the cell's clock; see scoring/fairness.py
-- KEYS[6]    sorted set  kind|lead|member by when its state ends, epoch ms
-- KEYS[7]    hash        guide -> record "answered,offered,won,closed,silent,paused_until_ms,at_ms"
-- KEYS[8]    sorted set  slots that are taken, members store|service|start_ms|kind|lead|member, all scores 0
-- KEYS[8+i]  hash        lead i: q (its newest seq), d(igest), of a reservation d<version> for each, v(ersion) and h(eld slots),
--            to (the cell for which it has left), and each seq -> answer; of one that is at home elsewhere only q and to, see arrive
-- ARGV[1]    how long a lead is remembered, ms
-- ARGV[2]    how many entries the changes hold, about
-- ARGV[3]    the mark that the caller has seen, which a call from before a loss shows too late; ? when it has seen
--            none yet; '' for a cell of a brand that nobody knows, which has none
-- ARGV[4]    "now_ms horizon tiers age_up_ms half_life_ms silent_max pause_ms owner_ms store_ms by_ms": horizon is how far a
--            turn may be behind the clock, tiers are the digits of the tiers, the first one first, owner_ms and store_ms how
--            long an offer to the owner, and to a guide of the named store, lasts at most, by_ms when by this server's clock
--            the caller gives up
-- ARGV[8i-3] lead i as kind|lead|member
-- ARGV[8i-2] digest of its content: the same id, and version, with other content is a conflict
-- ARGV[8i-1] shortlist, best first: "guide|step|store|rest guide|step|store|rest ..." (rest is kept with the answer, unread)
-- ARGV[8i]   "arrival_ms tier queue rung policy offer_by_ms remind_ms wait_by_ms": what holds if it is offered, or waits, now
-- ARGV[8i+1] the cause, kind|id: asked again for the same one, the same answers come
-- ARGV[8i+2] '' for a lead that is new, =state for one that is over before it began; else "attempt guide state>next:by_ms ...",
--            see router/rules/lifecycle.py; a "!" behind guide: late, unless the state's time is over by now; guide: who
--            says so, of a lead that waits for whom there is a place, * for nobody
-- ARGV[8i+3] the slots that it wants, "n:store|service|start_ms ..." of which each may be taken n times; - for none, '' for
--            those that it has
-- ARGV[8i+4] what it brings from another cell, see leave: "name<TAB>value" a line; '' for nothing
-- Returns per lead {result, state, seq, answer, ...}: result is ok (offered or moved), waiting, replay, conflict, late,
-- illegal, not_yours, full (no room, no slot), nothing, or stale (look again: it has begun, or left for another cell); the answers of this cause begin at that seq, each is
-- "state attempt at_ms by_ms remind_ms policy start cause record choice", choice being "guide|step|store|rest" or
-- "queue|tier|arrival_ms|rung", start where the guide's turn began or 0, record the guide's after the step or -.
-- Raises before any write NOSTATE when the cell has lost its mark: Redis has lost its state; NOTYET when it has none that
-- the caller could have seen: it is new, or `changes` tells soon that it was lost; and OVERDUE when the caller has given up:
-- it may have asked again and been told "nothing", so nobody would publish what is decided now.
local open, capacity, waiting, changes, turns, due, records, slots = unpack(KEYS, 1, 8)
local mark = redis.call('HGET', capacity, '|')
if ARGV[3] == '?' and not mark then return redis.error_reply('NOTYET no mark in ' .. capacity) end
if ARGV[3] ~= '' and ARGV[3] ~= '?' and ARGV[3] ~= mark then
  return redis.error_reply('NOSTATE no such mark in ' .. capacity)
end
local now, horizon, order, age_up, half_life, silent_max, pause, owner_ms, store_ms, by_ms =
  string.match(ARGV[4], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
local clock_now = redis.call('TIME')
if clock_now[1] * 1000 + clock_now[2] / 1000 > tonumber(by_ms) then return redis.error_reply('OVERDUE by ' .. by_ms) end
local BOUND = {owner = tonumber(owner_ms), store = tonumber(store_ms)}
horizon, silent_max, age_up = tonumber(horizon), tonumber(silent_max), tonumber(age_up)
local FINAL = {won = true, lost = true, withdrawn = true, closed = true}
local OFFERED = {offered = true, delivered = true, seen = true}
local GIVEN_BACK = {declined = true, expired = true, returned = true}
local ANSWERS = {accepted = true, contacted = true, visited = true, won = true, lost = true, declined = true}
local CLOSED = {won = true, lost = true, closed = true}
local most, load, turn, record, touched = {}, {}, {}, {}, {} -- by guide, read once per call
local clock = tonumber(redis.call('HGET', turns, '|') or '0')
local noted = redis.call('EXISTS', records) == 1
local waits = redis.call('EXISTS', waiting) == 1

local function whole(number) return string.format('%d', number) end

local function record_of(guide)
  if record[guide] == nil then
    local held, its = noted and redis.call('HGET', records, guide), {}
    for number in string.gmatch(held or '0,0,0,0,0,0,0', '[^,]+') do its[#its + 1] = tonumber(number) end
    record[guide] = its
  end
  return record[guide]
end

-- What is known of a guide fades; then this is added.
local function note(guide, answered, offered, won, closed, silent)
  local its = record_of(guide)
  local faded = 0.5 ^ (math.max(now - its[7], 0) / half_life)
  for column, more in ipairs({answered, offered, won, closed}) do its[column] = its[column] * faded + more end
  its[5] = silent and its[5] + 1 or 0
  if silent and its[5] >= silent_max then its[5], its[6] = 0, now + pause end
  its[7] = tonumber(now)
  for column = 1, 4 do its[column] = string.format('%.3f', its[column]) end
  for column = 5, 7 do its[column] = whole(its[column]) end
  local text = table.concat(its, ',')
  for column, number in ipairs(its) do its[column] = tonumber(number) end
  redis.call('HSET', records, guide, text)
  noted, touched[guide], most[guide] = true, text, nil
  return text
end

local function has_room(guide)
  if most[guide] == nil then
    local held = redis.call('HGET', capacity, guide)
    most[guide] = held and tonumber(string.match(held, ':(%d+)$')) or 0
    if noted and most[guide] > 0 and record_of(guide)[6] > tonumber(now) then most[guide] = 0 end
  end
  if most[guide] > 0 and not load[guide] then
    -- '}' follows '|': the range holds exactly the attempts of this guide
    load[guide] = redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}')
  end
  return most[guide] > 0 and load[guide] < most[guide]
end

local function take_turn(guide, step)
  local start = math.max(turn[guide] or tonumber(redis.call('HGET', turns, guide) or '0'), clock - horizon)
  turn[guide], clock = start + step, math.max(clock, start)
  return whole(start)
end

-- The place of a tier in the order; who waits longer counts as of a higher one.
local function standing(place, arrived) return math.max(place - math.floor(math.max(tonumber(now) - arrived, 0) / age_up), 1) end

-- Whether the queue holds somebody who comes before a lead of this tier: a fresh one, or one that waits there itself since.
local function behind(queue, tier, itself, since)
  local mine = string.find(order, tier, 1, true)
  for place = 1, waits and #order or 0 do
    local group = queue .. '|' .. string.sub(order, place, place)
    local first = redis.call('ZRANGEBYLEX', waiting, '[' .. group .. '|', '(' .. group .. '}', 'LIMIT', 0, 1)[1]
    local arrived = first and tonumber(string.match(first, '^[^|]+|%d|(%d+)'))
    if first and not itself then
      if place <= mine or standing(place, arrived) <= mine then return true end
    elseif first and string.match(first, '[^|]+|[^|]+|[^|]+$') ~= itself then
      local theirs, its = standing(place, arrived), standing(mine, since)
      if theirs < its or theirs == its and arrived < since then return true end
    end
  end
  return false
end

-- Members of a sorted set are written many at a time; Lua's stack bounds how many.
local function add(key, list, most_at_once)
  if #list > most_at_once then redis.call('ZADD', key, unpack(list)) return {} end
  return list
end

local opened, dues = {}, {}
local function flush()
  opened, dues = add(open, opened, 0), add(due, dues, 0)
end

local function words(answer)
  local out = {}
  for word in string.gmatch(answer, '%S+') do out[#out + 1] = word end
  return out
end

-- Of a choice only who holds the lead, and in which store.
local function holding(choice)
  return string.match(choice, '^([^|]+)') .. '|0|' .. string.match(choice, '^[^|]+|%d+|([^|]+)')
end

local out = {}
for i = 1, #KEYS - 8 do
  local key, whom, digest, shortlist, about, cause, move, wanted, brought = KEYS[8 + i], unpack(ARGV, 8 * i - 3, 8 * i + 4)
  local arrival, tier, queue, rung, policy, offer_by, remind, wait_by =
    string.match(about, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  -- who comes back finds what stayed when it left, at an earlier seq; a late call brings nothing that is newer
  local there = brought ~= '' and redis.call('HMGET', key, 'q', 'to')
  if there and there[2] and tonumber(there[1]) < tonumber(string.match('\n' .. brought, '\nq\t(%d+)')) then
    redis.call('DEL', key)
    there = {}
  end
  if there and not there[1] then
    for name, value in string.gmatch(brought, '([^\t\n]+)\t([^\n]*)') do redis.call('HSET', key, name, value) end
    redis.call('PEXPIRE', key, ARGV[1])
  end
  local held = redis.call('HMGET', key, 'q', 'd', 'v', 'h', 'to')
  local version = string.match(cause, '^reservation/(%d+)|')
  local seq, attempt, result, made, tried = tonumber(held[1] or '0'), 0, nil, {}, {}
  local newest, ends

  local function write(state, by, remind_ms, start, its_record, choice)
    made[#made + 1] = table.concat({state, whole(attempt), now, by, remind_ms, policy, start, cause, its_record, choice}, ' ')
    ends = remind_ms ~= '0' and remind_ms or by
  end

  local function place(shortlist, only)
    for entry in string.gmatch(shortlist, '%S+') do
      local guide, step = string.match(entry, '^([^|]+)|(%d+)')
      if not tried[guide] and (not only or guide == only) and has_room(guide) then
        load[guide], touched[guide], attempt = load[guide] + 1, touched[guide] or true, attempt + 1
        opened[#opened + 1] = 0
        opened[#opened + 1] = guide .. '|' .. whom
        local by, remind_ms, bound = offer_by, remind, BOUND[string.match(entry, '[^|]+$')]
        if bound and now + bound < tonumber(offer_by) then
          by = whole(now + bound)
          if remind ~= '0' then remind_ms = whole(now + math.floor((remind - now) * bound / (offer_by - now))) end
        end
        write('offered', by, remind_ms, take_turn(guide, tonumber(step)), '-', entry)
        return entry
      end
    end
  end

  local function wait()
    local choice = table.concat({queue, tier, arrival, rung}, '|')
    redis.call('ZADD', waiting, 0, choice .. '|' .. whom)
    waits = true
    write('waiting', wait_by, '0', '0', '-', choice)
  end

  -- Take the slots that are wanted and let go of the others; false where one is sold out.
  local function hold(names)
    for most_at_once, slot in string.gmatch(names, '(%d+):(%S+)') do
      if not redis.call('ZSCORE', slots, slot .. '|' .. whom)
        and redis.call('ZLEXCOUNT', slots, '[' .. slot .. '|', '(' .. slot .. '}') >= tonumber(most_at_once) then return false end
    end
    for slot in string.gmatch(held[4] or '', '%S+') do redis.call('ZREM', slots, slot .. '|' .. whom) end
    local taken = {}
    for slot in string.gmatch(names, '%d+:(%S+)') do
      redis.call('ZADD', slots, 0, slot .. '|' .. whom)
      taken[#taken + 1] = slot
    end
    if #taken > 0 or held[4] then
      held[4] = table.concat(taken, ' ')
      redis.call('HSET', key, 'h', held[4])
    end
    return true
  end

  -- how the lead stands, who has given it back, and what this cause has brought before
  if seq > 0 then
    local all, answers, first = redis.call('HGETALL', key), {}, nil
    for at = 1, #all, 2 do answers[all[at]] = all[at + 1] end
    for at = 1, seq do
      local answer = answers[whole(at)] or ''
      newest = words(answer)
      if newest[8] == cause then first = first or at made[#made + 1] = answer end
      -- whom a change of a reservation has let go may get it again
      if GIVEN_BACK[newest[1]] and not string.find(newest[8], '^reservation/') then tried[string.match(newest[10], '^[^|]+')] = true end
    end
    attempt = tonumber(newest[2] or '0')
    if #newest == 0 and held[5] then
      result = 'stale' -- at home in another cell by now
    elseif version and (answers['d' .. version] or digest) ~= digest
      or not version and (move == '' or string.sub(move, 1, 1) == '=') and held[2] ~= digest then
      result, made = 'conflict', {}
    elseif first then
      result, seq = 'replay', first
    elseif string.sub(move, 1, 1) == '=' then
      result = 'stale'
    elseif move == '' or version and tonumber(version) <= tonumber(held[3] or '0') then
      result = 'late' -- a later version is known, or its first answer is forgotten
    end
  end

  if result then -- nothing to do
  elseif seq == 0 and string.sub(move, 1, 1) == '=' or move == '' and not hold(wanted) then
    write(move == '' and 'closed' or string.sub(move, 2), '0', '0', '0', '-', table.concat({queue, tier, arrival, rung}, '|'))
    result, ends = move == '' and 'full' or 'ok', nil
  elseif move == '' then
    result = not behind(queue, tier) and place(shortlist) and 'ok'
    if not result then
      result = 'waiting'
      wait()
    end
  elseif seq == 0 then
    result = 'late'
  else
    local state, holder = newest[1], string.match(newest[10], '^[^|]+')
    local which, who, moves = string.match(move, '^(%S+) (%S+)( .*)$')
    local to, again, after, by = string.match(moves, ' ' .. state .. '>(%a*)(%+?)(%a*):(%w+)')
    flush()
    if to and after ~= '' then tried[who] = nil end -- who gave it back may still come and take it
    local early = string.find(moves, ' !', 1, true) and tonumber(now) < tonumber(newest[4])
    if early and not FINAL[state] and not held[5] then
      dues[#dues + 1] = newest[5] ~= '0' and newest[5] or newest[4] -- what ends later is due later
      dues[#dues + 1] = whom
    end
    if FINAL[state] or early or which ~= '-' and tonumber(which) ~= attempt or tried[who] and holder ~= who then
      result = 'late'
    elseif not to then
      result = 'illegal'
    elseif who ~= '*' and holder ~= who and after == '' and (state ~= 'waiting' or again == '') then
      result = 'not_yours'
    elseif held[5] then -- on its way to another cell: only what must not be lost waits for it
      result = to ~= '' and 'stale' or after ~= '' and 'full' or 'nothing'
    elseif wanted ~= '' and not hold(wanted) then
      result = 'full'
      if brought ~= '' then -- what it had in the cell that it left is given up by now
        write('closed', '0', '0', '0', '-', state == 'waiting' and newest[10] or holding(newest[10]))
        ends = nil
        hold('')
      end
    else
      local its_record = '-'
      local function let_go()
        if state == 'waiting' then
          redis.call('ZREM', waiting, newest[10] .. '|' .. whom)
        elseif redis.call('ZREM', open, holder .. '|' .. whom) == 1 then
          touched[holder] = touched[holder] or true
          if load[holder] then load[holder] = math.max(load[holder] - 1, 0) end
        end
      end
      if state ~= 'waiting' then
        local silent = OFFERED[state] and to == 'expired'
        local answered, closed = OFFERED[state] and ANSWERS[to] and 1 or 0, CLOSED[to] and 1 or 0
        if silent or answered + closed > 0 then
          its_record = note(holder, answered, silent and 1 or answered, to == 'won' and 1 or 0, closed, silent)
        end
      end
      if to ~= '' then
        write(to, by == 'k' and newest[4] or by, '0', '0', its_record, state == 'waiting' and newest[10] or holding(newest[10]))
        result = 'ok'
        if again ~= '' or FINAL[to] then let_go() end
        if GIVEN_BACK[to] and not version then tried[holder] = true end
        if FINAL[to] then
          ends = nil
          hold('')
        end
      end
      if again ~= '' then
        local old = state == 'waiting' and newest[10]
        -- for whom one was found may take somebody else if nobody is overtaken by that
        local only = old and (after ~= '' or who ~= '*' and behind(queue, tier, whom, tonumber(arrival))) and who
        if place(shortlist, only) then
          if old then let_go() end
          result = 'ok'
          if after ~= '' then
            local entry = string.match(made[#made], '(%S+)$')
            local guide = string.match(entry, '^[^|]+')
            local its = note(guide, 1, 1, 0, 0, false)
            write(after, by, '0', '0', its, holding(entry))
          end
        elseif after ~= '' then
          result = 'full'
        elseif not old or by == 'w' or string.match(old, '^[^|]+') ~= queue then
          if old then let_go() end
          wait()
          result = 'waiting'
        else
          result = 'nothing'
        end
      end
    end
    flush()
  end

  if result ~= 'replay' and #made > 0 then
    local sets = {'q', seq + #made}
    for at, answer in ipairs(made) do
      sets[#sets + 1] = whole(seq + at)
      sets[#sets + 1] = answer
    end
    if seq == 0 or version then
      sets[#sets + 1] = 'd' .. (version or '')
      sets[#sets + 1] = digest
    end
    if version then
      sets[#sets + 1] = 'v'
      sets[#sets + 1] = version
    end
    redis.call('HSET', key, unpack(sets))
    -- a later version of a reservation may be for a later visit
    if seq == 0 or version then redis.call('PEXPIRE', key, ARGV[1]) end
    if not ends then
      redis.call('ZREM', due, whom)
    else
      dues[#dues + 1] = ends
      dues[#dues + 1] = whom
    end
    seq = seq + 1
    opened, dues = add(open, opened, 1000), add(due, dues, 1000)
  end
  local state = #made > 0 and string.match(made[#made], '^%S+') or newest and newest[1] or ''
  out[i] = {result, state, seq, unpack(made)}
end
flush()

if next(touched) then
  local news = {}
  if next(turn) then
    redis.call('HSET', turns, '|', whole(clock))
    for guide, its in pairs(turn) do redis.call('HSET', turns, guide, whole(its)) end
    news[1] = '| 0 ' .. whole(clock) .. ' -'
  end
  if mark then
    for guide, its in pairs(touched) do
      local many = load[guide] or redis.call('ZLEXCOUNT', open, '[' .. guide .. '|', '(' .. guide .. '}')
      local text = its ~= true and its or noted and redis.call('HGET', records, guide) or '-'
      local at = turn[guide] and whole(turn[guide]) or redis.call('HGET', turns, guide) or '0'
      news[#news + 1] = guide .. ' ' .. whole(many) .. ' ' .. at .. ' ' .. (text or '-')
    end
    table.sort(news)
    redis.call('XADD', changes, 'MAXLEN', '~', ARGV[2], mark .. '-*', 'g', table.concat(news, ' '))
  end
end
return out

#!lua
-- Post what follows for orders of one brand: each posting once, numbered and kept before anybody publishes it.
-- Call: EVALSHA per brand; the keys stand in KEYS, the changes name them by their place there.
-- KEYS[1]    hash        head: seq, open, n|period, seal|period; | -> the mark of a state that is whole
-- KEYS[2]    sorted set  posting -> book_seq, until the broker is known to have it
-- KEYS[3..5] sorted sets order -> when it vests, epoch ms; in which period it was earned; and settled
-- KEYS[..]   orders (hash), postings (string), chains (sorted set) and earnings (hash), see router/state/keys.py
-- ARGV[1]    how long the bytes of a posting are kept, ms
-- ARGV[2]    post, or restore: postings bring their numbers, and the state need not be whole
-- ARGV[2+i]  change i, JSON: order (key or 0), id, read (its standing as it was read), standing, inputs or '', waits (three
--            scores or ''), posts {key, id, body, chain, entry, period, seq}, bumps {key, field, fen, least or most
--            (0 in the end) or ''}; to shut a period for postings: shut {period, next}; then,
--            to seal it: close {period, chain, next, count, seal}
-- Returns per change {result, bytes of each posting ...}: ok, repeat (the same was posted before, these are its bytes),
-- conflict (the same id with other content), beyond (a bump passes its bound: its key and field), over (or what Redis can
-- count), stale (the order, or the book, is not as it was read), short (the chain that is to be sealed is not whole). But
-- for ok nothing is done.
-- Raises NOSTATE before any write when the book has lost its mark: Redis has lost its state.
local head, unpublished = KEYS[1], KEYS[2]
local restore = ARGV[2] == 'restore'
if not restore and redis.call('HEXISTS', head, '|') == 0 then
  return redis.error_reply('NOSTATE no mark in ' .. head)
end

-- Redis counts to 2^63; sums are compared as floats, which this is far enough from.
local MOST = 9e18

local function last_day(key)
  return string.match(redis.call('HGET', key, 'day') or ' 0', '^(%S*) (.*)$')
end

local function counted(key, field)
  local day = string.match(field, '^d|(.*)$')
  if not day then return tonumber(redis.call('HGET', key, field) or '0') end
  local last, sum = last_day(key)
  return day == last and tonumber(sum) or 0
end

local function beyond(change)
  for _, each in ipairs(change.bumps) do
    local key, field, bound = KEYS[each[1]], each[2], each[4]
    local sum = counted(key, field) + tonumber(each[3])
    local passed = bound == 'least' and sum < 0 or bound == 'most' and sum > 0
    if passed then return 'beyond', {key, field} end
    if math.abs(sum) > MOST then return 'over', {key, field} end
  end
end

local function look(change)
  if change.order > 0 and (redis.call('HGET', KEYS[change.order], 's') or '') ~= change.read then return 'stale' end
  local open, before = redis.call('HGET', head, 'open') or '', {}
  for at, post in ipairs(change.posts) do
    local held = redis.call('GET', KEYS[post.key])
    if held then
      -- the number stands first, and is not the sender's
      local same = restore and held == post.body or string.match(held, '^{"book_seq":%d+,(.*)$') == post.body
      if not same then return 'conflict' end
      before[at] = held
    elseif not restore and post.period < open then
      return 'stale'
    end
  end
  if #before > 0 then return 'repeat', before end
  local close = change.close
  if close and not restore then
    if open < close.next or redis.call('HEXISTS', head, 'seal|' .. close.period) == 1 then return 'stale' end
    if redis.call('ZCARD', KEYS[close.chain]) ~= close.count then return 'short' end
    if tonumber(redis.call('HGET', head, 'n|' .. close.period) or '0') ~= close.count then return 'short' end
  end
  if not restore then
    local passed, where = beyond(change)
    if passed then return passed, where end
  end
  return 'ok', before
end

local function bump(key, field, fen)
  local day = string.match(field, '^d|(.*)$')
  if not day then return redis.call('HINCRBY', key, field, fen) end
  local last, sum = last_day(key)
  if day < last then return end
  -- Redis adds, since Lua counts in floats
  redis.call('HSET', key, 'day', day == last and sum or '0')
  redis.call('HINCRBY', key, 'day', fen)
  redis.call('HSET', key, 'day', day .. ' ' .. redis.call('HGET', key, 'day'))
end

local out = {}
for i = 1, #ARGV - 2 do
  local change = cjson.decode(ARGV[2 + i])
  local result, made = look(change)
  if result == 'ok' then
    local open = redis.call('HGET', head, 'open') or ''
    for at, post in ipairs(change.posts) do
      local seq = post.seq
      if restore then
        made[at] = post.body
        if seq > tonumber(redis.call('HGET', head, 'seq') or '0') then redis.call('HSET', head, 'seq', seq) end
      else
        seq = redis.call('HINCRBY', head, 'seq', 1)
        made[at] = '{"book_seq":' .. string.format('%d', seq) .. ',' .. post.body
        redis.call('ZADD', unpublished, seq, post.id)
      end
      redis.call('SET', KEYS[post.key], made[at], 'PX', ARGV[1])
      if post.period >= open or redis.call('HEXISTS', head, 'n|' .. post.period) == 1 then
        redis.call('ZADD', KEYS[post.chain], seq, post.entry)
        redis.call('HINCRBY', head, 'n|' .. post.period, 1)
      end
    end
    for _, each in ipairs(change.bumps) do bump(KEYS[each[1]], each[2], each[3]) end
    if change.order > 0 then
      if change.standing == '' then redis.call('DEL', KEYS[change.order]) else redis.call('HSET', KEYS[change.order], 's', change.standing) end
      if change.inputs ~= '' then redis.call('HSET', KEYS[change.order], 'i', change.inputs) end
      for at, score in ipairs(change.waits) do
        if score == '' then redis.call('ZREM', KEYS[2 + at], change.id) else redis.call('ZADD', KEYS[2 + at], score, change.id) end
      end
    end
    local shut, close = change.shut, change.close
    if shut then
      if shut.next > open then redis.call('HSET', head, 'open', shut.next) end
      -- it is still to be sealed, though nothing be in it; unless somebody else has sealed it meanwhile
      if redis.call('HEXISTS', head, 'seal|' .. shut.period) == 0 then redis.call('HINCRBY', head, 'n|' .. shut.period, 0) end
    end
    if close then
      redis.call('HSET', head, 'seal|' .. close.period, close.seal)
      if close.next > open then redis.call('HSET', head, 'open', close.next) end
      redis.call('HDEL', head, 'n|' .. close.period)
      redis.call('UNLINK', KEYS[close.chain])
    end
  end
  out[i] = {result, unpack(made or {})}
end
return out

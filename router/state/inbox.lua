#!lua
-- Put cards into guides' inboxes; a card already there with the same or a higher seq stays as it is.
-- Call: EVALSHA per guide shard (one for all on a single Redis), two keys for each card.
-- KEYS[2i-1]  hash    inbox: kind|lead -> seq|record
-- KEYS[2i]    stream  feed of the newest cards
-- ARGV[1]     how long an inbox is kept after its last card, ms
-- ARGV[2]     how many cards a feed holds
-- ARGV[4i-1]  kind|lead, ARGV[4i] seq, ARGV[4i+1] record, ARGV[4i+2] "1" while the guide holds the lead
-- Returns how many cards were new.
local fresh = 0
for i = 1, #KEYS / 2 do
  local inbox, feed = KEYS[2 * i - 1], KEYS[2 * i]
  local lead, seq, record = ARGV[4 * i - 1], ARGV[4 * i], ARGV[4 * i + 1]
  local held = redis.call('HGET', inbox, lead)
  local known = held and tonumber(string.match(held, '^(%d+)|')) or 0
  if tonumber(seq) > known then
    -- a card that is over stays as its seq alone, so that an old record cannot bring it back
    redis.call('HSET', inbox, lead, seq .. '|' .. (ARGV[4 * i + 2] == '1' and record or ''))
    redis.call('XADD', feed, 'MAXLEN', '~', ARGV[2], '*', 'record', record)
    redis.call('PEXPIRE', inbox, ARGV[1])
    redis.call('PEXPIRE', feed, ARGV[1])
    fresh = fresh + 1
  end
end
return fresh

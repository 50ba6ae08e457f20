#!lua
-- Put cards into guides' inboxes; a card with a lower seq, or later in the log with the same one, changes nothing.
-- Call: EVALSHA per guide shard (one for all on a single Redis), two keys for each card.
-- KEYS[2i-1]  hash    inbox: kind|lead -> seq|offset|record
-- KEYS[2i]    stream  feed of the newest cards
-- ARGV[1]     how long an inbox is kept after its last card, ms
-- ARGV[2]     how many cards a feed holds
-- ARGV[5i-2]  kind|lead, ARGV[5i-1] seq, ARGV[5i] offset, ARGV[5i+1] record, ARGV[5i+2] "1" while the guide holds the lead
-- Returns how many cards were new.
local fresh = 0
for i = 1, #KEYS / 2 do
  local inbox, feed = KEYS[2 * i - 1], KEYS[2 * i]
  local lead, seq, offset, record = ARGV[5 * i - 2], ARGV[5 * i - 1], ARGV[5 * i], ARGV[5 * i + 1]
  local held = redis.call('HGET', inbox, lead)
  local known, at, shown = string.match(held or '0|0|', '^(%d+)|(%d+)|(.*)$')
  local higher = tonumber(seq) > tonumber(known)
  if higher or tonumber(seq) == tonumber(known) and tonumber(offset) < tonumber(at) then
    -- a card that is over stays as its place alone, so that an old record cannot bring it back
    local card = ARGV[5 * i + 2] == '1' and record or ''
    redis.call('HSET', inbox, lead, seq .. '|' .. offset .. '|' .. card)
    if higher or card ~= shown then
      redis.call('XADD', feed, 'MAXLEN', '~', ARGV[2], '*', 'record', record)
      redis.call('PEXPIRE', inbox, ARGV[1])
      redis.call('PEXPIRE', feed, ARGV[1])
      fresh = fresh + 1
    end
  end
end
return fresh

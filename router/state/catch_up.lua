#!lua
-- What a guide's feed brings after places in it, or the inbox as a whole where a place is in it no more.
-- Call: EVALSHA per guide.
-- KEYS[1]    hash    inbox: kind|lead -> seq|offset|record
-- KEYS[2]    stream  feed of the newest cards
-- ARGV[1]    how many entries a feed holds at least
-- ARGV[i+1]  a place: the id of an entry, 0-0 for an empty feed, '' for none
-- Returns the feed's end, then for each place {1, id, record, ...} or {0, record, ...}, all as of that end.
-- An entry that is still there proves that nothing behind it was trimmed, and that this is the same feed.
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local out = { newest[1] and newest[1][1] or '0-0' }
local whole = nil
for i = 2, #ARGV do
  local place, known = ARGV[i], false
  if place == '0-0' then
    known = redis.call('XLEN', KEYS[2]) <= tonumber(ARGV[1])
  elseif place ~= '' then
    known = #redis.call('XRANGE', KEYS[2], place, place) == 1
  end
  if known then
    local news = { 1 }
    for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. place, '+')) do
      news[#news + 1] = entry[1]
      news[#news + 1] = entry[2][2]
    end
    out[i] = news
  else
    if not whole then
      whole = { 0 }
      local held = redis.call('HVALS', KEYS[1])
      for j = 1, #held do
        local record = string.match(held[j], '^%d+|%d+|(.+)$')
        if record then whole[#whole + 1] = record end
      end
    end
    out[i] = whole
  end
end
return out

#!lua
-- What a guide's feed brings after places in it, or the inbox as a whole where a place is in it no more.
-- Call: EVALSHA per guide.
-- KEYS[1]  hash    inbox: kind|lead -> seq|offset|record
-- KEYS[2]  stream  feed of the newest cards
-- ARGV[i]  a place: the id of an entry, 0-0 for an empty feed, '' for none
-- Returns the feed's end, then for each place {1, id, record, ...} or {0, record, ...}, all as of that end.
local inbox, feed = KEYS[1], KEYS[2]
local newest = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)

-- an entry that is still there proves that nothing behind it was trimmed, and that this is the same feed
local function known(place)
  if place == '' then return false end
  if place ~= '0-0' then return #redis.call('XRANGE', feed, place, place) == 1 end
  if not newest[1] then return true end
  local about, told = redis.call('XINFO', 'STREAM', feed), {}
  for i = 1, #about, 2 do told[about[i]] = about[i + 1] end
  return told['entries-added'] == told['length']
end

local function since(place)
  local news = { 1 }
  for _, entry in ipairs(redis.call('XRANGE', feed, '(' .. place, '+')) do
    news[#news + 1] = entry[1]
    news[#news + 1] = entry[2][2]
  end
  return news
end

local function whole()
  local cards = { 0 }
  for _, held in ipairs(redis.call('HVALS', inbox)) do
    -- of a card that is over the place alone is left
    cards[#cards + 1] = string.match(held, '^%d+|%d+|(.+)$')
  end
  return cards
end

local out = { newest[1] and newest[1][1] or '0-0' }
for i, place in ipairs(ARGV) do out[i + 1] = known(place) and since(place) or whole() end
return out

#!lua
-- What a guide's inbox holds about a lead.
-- Call: EVALSHA per guide.
-- KEYS[1]  hash  inbox: kind|lead -> seq|offset|record
-- ARGV[1]  kind|lead
-- Returns the time in epoch ms, then seq|offset|record or nothing.
local time = redis.call('TIME')
return { time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGET', KEYS[1], ARGV[1]) or nil }

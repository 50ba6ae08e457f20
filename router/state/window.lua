#!lua
-- Open windows to answer members, or close those that were seen to.
-- Call: EVALSHA per brand (one for all on a single Redis), a key for each window.
-- KEYS[i]     sorted set  windows: member -> when the member last did something, epoch ms; only grows
-- ARGV[1]     open or close
-- ARGV[2i]    member; ARGV[2i+1] when; close: the window that was seen to, one that was opened since stays
-- Returns nothing.
for i = 1, #KEYS do
  local member, at = ARGV[2 * i], ARGV[2 * i + 1]
  if ARGV[1] == 'open' then
    redis.call('ZADD', KEYS[i], 'GT', at, member)
  elseif tonumber(redis.call('ZSCORE', KEYS[i], member) or '-1') == tonumber(at) then
    redis.call('ZREM', KEYS[i], member)
  end
end

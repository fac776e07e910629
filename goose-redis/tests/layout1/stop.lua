-- Ends a session on one queue in good order. Jobs that are still running stay claimed until its lease is over, and
-- are recovered then without counting as a crash.
-- KEYS  1 leases  2 claims of the session  3 ready  4 scheduled  5 wake  6 meta
-- ARGV  1 session id
-- returns  how many claims are left
redis.call('ZCARD', KEYS[1]); redis.call('ZCARD', KEYS[5])
local watch = redis.call('HGET', KEYS[6], 'watch')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local first = tonumber(redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2])
local wake = redis.call('LLEN', KEYS[3]) > 0 or (first and first <= now)
local alive = redis.call('HDEL', KEYS[2], '')
local left = redis.call('HLEN', KEYS[2])
if alive == 1 and left > 0 then
  redis.call('HSET', KEYS[2], 'stopped', '1')
elseif alive == 1 then
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
-- It was to wake at the time of the next due job.
if watch and string.match(watch, '^%d+:%d+:(.*)$') == KEYS[2] then
  redis.call('HDEL', KEYS[6], 'watch')
  wake = wake or first
end
-- The last marker may have gone to us, and we do nothing with it any more: somebody else must wake.
if wake then redis.call('ZADD', KEYS[5], 0, '1') end
return left

-- Ends a session on one queue in good order. Jobs that are still running stay claimed until its lease is over, and
-- are recovered then without counting as a crash.
-- KEYS  1 leases  2 claims of the session
-- ARGV  1 session id
-- returns  how many claims are left
redis.call('ZCARD', KEYS[1])
local alive = redis.call('HDEL', KEYS[2], '')
local left = redis.call('HLEN', KEYS[2])
if alive == 1 and left > 0 then
  redis.call('HSET', KEYS[2], 'stopped', '1')
elseif alive == 1 then
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return left

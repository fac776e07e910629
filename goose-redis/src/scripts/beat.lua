-- Says that a session lives, and which others have not said so in time.
-- KEYS  1 leases  2 claims of the session
-- ARGV  1 session id  2 lease in ms
-- returns  { now, 1 alive or 0 lost, then for others whose lease is over: id, when it was over }
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local alive = redis.call('HEXISTS', KEYS[2], '')
if alive == 1 then
  -- ZREM works on a full server, and ZADD after it does too.
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
end
local out = { now, alive }
local late = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1000)
for i = 1, #late do out[2 + i] = late[i] end
return out

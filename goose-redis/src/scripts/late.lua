-- Which sessions of a queue have not said in time that they live.
-- KEYS  1 leases
-- ARGV  1 how many to leave out  2 the most to return, up to a thousand
-- returns  { now, then: id, when its lease was over }
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', ARGV[1], ARGV[2])
table.insert(out, 1, now)
return out

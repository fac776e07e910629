-- Which sessions of a queue have not said in time that they live.
-- KEYS  1 leases
-- returns  { now, then: id, when its lease was over }
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1000)
table.insert(out, 1, now)
return out

-- Counts of one queue, without looking at any job.
-- KEYS  1 ready  2 scheduled  3 dead  4 meta
-- returns  { ready, scheduled, running, dead, enqueued, succeeded, failed, died, discarded, recovered }
local m = redis.call('HMGET', KEYS[4], 'tombs', 'running', 'enqueued', 'succeeded', 'failed', 'died', 'discarded',
  'recovered')
local function n(i) return tonumber(m[i] or 0) end
return { redis.call('LLEN', KEYS[1]) - n(1), redis.call('ZCARD', KEYS[2]), n(2), redis.call('ZCARD', KEYS[3]),
  n(3), n(4), n(5), n(6), n(7), n(8) }

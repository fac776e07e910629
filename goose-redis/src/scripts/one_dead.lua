-- Finds, replays, or deletes a dead job.
-- KEYS  1 jobs  2 ready  3 dead  4 epitaphs  5 meta  6 wake  7 recoveries
-- ARGV  1 what: '?' find, 'r' replay, 'd' delete  2 id  3 the new value of a replayed job
--       4 the time of death that is meant, or '' for any
-- returns  { 0 } no such job; { 1, value, time of death in µs, epitaph }
local J, R, D, E, M, N, X = unpack(KEYS)
local what, id = ARGV[1], ARGV[2]
redis.call('LLEN', R); redis.call('HLEN', M); redis.call('ZCARD', N); redis.call('HLEN', X)
local died, value, epitaph = redis.call('ZSCORE', D, id), redis.call('HGET', J, id), redis.call('HGET', E, id)
if not died or ARGV[4] ~= '' and ARGV[4] ~= died then return { 0 } end
-- A dead job whose bytes are gone can still be seen and removed.
value = value or ''
if what ~= '?' then
  redis.call('ZREM', D, id)
  redis.call('HDEL', E, id)
  redis.call('HDEL', X, id)
end
if what == 'd' then
  redis.call('HDEL', J, id)
elseif what == 'r' then
  redis.call('HSET', J, id, ARGV[3])
  redis.call('LPUSH', R, id .. string.sub(ARGV[3], 2, 3))
  redis.call('HINCRBY', M, 'head', -1)
  redis.call('ZADD', N, 0, '1')
end
return { 1, value, died, epitaph or '' }

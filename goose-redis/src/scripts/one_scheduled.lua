-- Finds, runs now, or deletes a job that waits for its time.
-- KEYS  1 jobs  2 ready  3 scheduled  4 meta  5 wake  6 recoveries
-- ARGV  1 what: '?' find, 'p' run now, 'd' delete  2 id
-- returns  { 0 } no such job; { 1, value, due time, recoveries }
local J, R, S, M, N, X = unpack(KEYS)
local what, id = ARGV[1], ARGV[2]
redis.call('LLEN', R); redis.call('HLEN', M); redis.call('ZCARD', N)
local due, value = redis.call('ZSCORE', S, id), redis.call('HGET', J, id)
local crashes = redis.call('HGET', X, id) or '0'
if not due or not value then return { 0 } end
if what ~= '?' then redis.call('ZREM', S, id) end
if what == 'd' then
  redis.call('HDEL', J, id)
  redis.call('HDEL', X, id)
elseif what == 'p' then
  redis.call('LPUSH', R, id .. string.sub(value, 2, 3))
  redis.call('HINCRBY', M, 'head', -1)
  redis.call('ZADD', N, 0, '1')
end
return { 1, value, due, crashes }

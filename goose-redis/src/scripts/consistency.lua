-- Counts everything of one queue, to compare.
-- KEYS  1 jobs  2 ready  3 scheduled  4 dead  5 epitaphs  6 meta  7 leases  then the claims of every session, in the
--       order of ARGV
-- ARGV  the ids of all sessions
-- returns  { jobs, entries in line, leftovers among them, scheduled, dead, epitaphs, claimed, claimed as counted }, or
--          { 0 } when sessions came or went, read them again
if redis.call('ZCARD', KEYS[7]) ~= #ARGV then return { 0 } end
local claimed = 0
for i = 1, #ARGV do
  -- Not their order: that is another one with every beat.
  if not redis.call('ZSCORE', KEYS[7], ARGV[i]) then return { 0 } end
  local P = KEYS[7 + i]
  -- Two fields of a session are no claims: the one that says that it lives, and the one of its good end.
  claimed = claimed + redis.call('HLEN', P) - redis.call('HEXISTS', P, '') - redis.call('HEXISTS', P, 'stopped')
end
local m = redis.call('HMGET', KEYS[6], 'tombs', 'running')
return { redis.call('HLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), tonumber(m[1] or 0), redis.call('ZCARD', KEYS[3]),
  redis.call('ZCARD', KEYS[4]), redis.call('HLEN', KEYS[5]), claimed, tonumber(m[2] or 0) }

-- Removes some jobs: of those in line, or of the scheduled or dead before a time.
-- KEYS  1 jobs  2 the list or sorted set  3 meta  4 epitaphs  5 recoveries
-- ARGV  1 'r' ready, 't' timed  2 the time before which, exclusive, or '+inf'  3 how many at most
-- returns  { how many were removed, 1 when there may be more }
local J, Z, M, E, X = unpack(KEYS)
local most = tonumber(ARGV[3])
redis.call('HLEN', J); redis.call('HLEN', M); redis.call('HLEN', E); redis.call('HLEN', X)
local ids, looked = {}, 0
if ARGV[1] == 'r' then
  local entries = redis.call('LPOP', Z, most) or {}
  looked = #entries
  if looked == 0 then return { 0, 0 } end
  redis.call('HINCRBY', M, 'head', looked)
  local members = {}
  for i = 1, looked do members[i] = string.sub(entries[i], 1, 16) end
  local values = redis.call('HMGET', J, unpack(members))
  for i = 1, looked do
    if values[i] and string.sub(values[i], 2, 3) == string.sub(entries[i], 17, 18) then ids[#ids + 1] = members[i] end
  end
  if looked > #ids then redis.call('HINCRBY', M, 'tombs', #ids - looked) end
else
  local before = ARGV[2]
  if before ~= '+inf' then before = '(' .. before end
  ids = redis.call('ZRANGEBYSCORE', Z, '-inf', before, 'LIMIT', 0, most)
  looked = #ids
  if looked > 0 then redis.call('ZREM', Z, unpack(ids)) end
end
if #ids > 0 then
  redis.call('HDEL', J, unpack(ids))
  redis.call('HDEL', E, unpack(ids))
  redis.call('HDEL', X, unpack(ids))
end
return { #ids, looked == most and 1 or 0 }

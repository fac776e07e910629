-- Finds, moves to the front, or deletes a job that waits in line.
-- KEYS  1 jobs  2 ready  3 scheduled  4 dead  5 leases  6 meta  7 wake  8 recoveries
--       then the claims of every session, in the order of ARGV; none when they were asked by a search
-- ARGV  1 what: '?' find, 'p' prioritise, 'd' delete  2 id  3 a new generation  4 the name of a search that found that
--       nobody holds it, see `seek.lua`, or ''  then the ids of all sessions
-- returns  { 0 } no such job in line; { 1, value } found; { 2 } sessions came or went, or the job was claimed
--          meanwhile: look again
local J, R, S, D, W, M, N, X = unpack(KEYS, 1, 8)
local what, id = ARGV[1], ARGV[2]
redis.call('LLEN', R); redis.call('HLEN', M); redis.call('ZCARD', N); redis.call('HLEN', X)
local value = redis.call('HGET', J, id)
if not value or redis.call('ZSCORE', S, id) or redis.call('ZSCORE', D, id) then return { 0 } end
-- What waits nowhere else is in line, unless a session holds it.
if ARGV[4] ~= '' then
  local sought, left, found = redis.call('HGET', M, 'sought') or '', {}, false
  for i = 1, #sought, 37 do
    local entry = string.sub(sought, i, i + 36)
    if string.sub(entry, 1, 24) == id .. ARGV[4] then found = true else left[#left + 1] = entry end
  end
  if not found then return { 2 } end
  redis.call('HDEL', M, 'sought')
  if #left > 0 then redis.call('HSET', M, 'sought', table.concat(left)) end
else
  if redis.call('ZCARD', W) ~= #ARGV - 4 then return { 2 } end
  for i = 5, #ARGV do
    -- Not their order: that is another one with every beat.
    if not redis.call('ZSCORE', W, ARGV[i]) then return { 2 } end
    if redis.call('HEXISTS', KEYS[4 + i], id) == 1 then return { 0 } end
  end
end
if what == 'd' then
  redis.call('HDEL', J, id)
  redis.call('HDEL', X, id)
  -- Its entry stays in the list until a fetch meets it.
  redis.call('HINCRBY', M, 'tombs', 1)
elseif what == 'p' then
  local generation = ARGV[3]
  -- The same one by chance would make two entries of one job.
  if generation == string.sub(value, 2, 3) then
    generation = string.char((string.byte(generation) + 1) % 256) .. string.sub(generation, 2)
  end
  redis.call('HSET', J, id, string.sub(value, 1, 1) .. generation .. string.sub(value, 4))
  redis.call('LPUSH', R, id .. generation)
  redis.call('HINCRBY', M, 'head', -1)
  redis.call('HINCRBY', M, 'tombs', 1)
  redis.call('ZADD', N, 0, '1')
end
return { 1, value }

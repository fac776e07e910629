-- A page of the scheduled or the dead, in the order of their times.
-- KEYS  1 jobs  2 the sorted set  3 epitaphs or recoveries
-- ARGV  1 time and 2 id after which to begin, '' for the start  3 the time before which to end, exclusive, or '+inf'
--       4 how many to look at
-- returns  per job: id, time, value, epitaph or number of recoveries
local J, Z, E = KEYS[1], KEYS[2], KEYS[3]
local start = 0
if ARGV[1] ~= '' then
  -- The first rank behind (time, id), by halves: whoever stood there may be gone.
  local time, id = tonumber(ARGV[1]), ARGV[2]
  local low, high = 0, redis.call('ZCARD', Z)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = redis.call('ZRANGE', Z, middle, middle, 'WITHSCORES')
    local score = tonumber(at[2])
    if score < time or (score == time and at[1] <= id) then low = middle + 1 else high = middle end
  end
  start = low
end
local found = redis.call('ZRANGE', Z, start, start + ARGV[4] - 1, 'WITHSCORES')
local ids, out = {}, {}
local before = ARGV[3] ~= '+inf' and tonumber(ARGV[3])
for i = 1, #found, 2 do
  if before and tonumber(found[i + 1]) >= before then break end
  ids[#ids + 1] = found[i]
end
if #ids == 0 then return out end
local values, notes = redis.call('HMGET', J, unpack(ids)), redis.call('HMGET', E, unpack(ids))
for i = 1, #ids do
  local o = #out
  out[o + 1] = ids[i]; out[o + 2] = found[i * 2]; out[o + 3] = values[i] or ''; out[o + 4] = notes[i] or ''
end
return out

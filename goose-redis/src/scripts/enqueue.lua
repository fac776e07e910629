-- Takes jobs into one queue: all of them, or, when the server has no room, none.
-- KEYS  1 jobs  2 ready  3 scheduled  4 wake  5 meta
-- ARGV  per job: id, value, place ('e' end, 'f' front, 'a'<ms> due at, 'd'<ms> due after)
-- returns  1 when the server knew nothing of the queue, else 0
local J, R, S, N, M = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- Types first: a script is not rolled back.
redis.call('LLEN', R); redis.call('ZCARD', S); redis.call('ZCARD', N)
local new = redis.call('HLEN', M) == 0 and 1 or 0
local ids = {}
for i = 1, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
-- An id that is already there is left as it is: enqueuing again after an unknown outcome is safe.
local held = redis.call('HMGET', J, unpack(ids))
local values, last, front, due, seen = {}, {}, {}, {}, {}
for i = 1, #ids do
  if not held[i] and not seen[ids[i]] then
    local id, value, place = ids[i], ARGV[i * 3 - 1], ARGV[i * 3]
    seen[id] = true
    values[#values + 1] = id
    values[#values + 1] = value
    local kind, at = string.sub(place, 1, 1), tonumber(string.sub(place, 2))
    -- The current millisecond may be as good as over, hence the one more.
    if kind == 'd' and at > 0 then at = now + at + 1 elseif kind == 'd' then at = now end
    local entry = id .. string.sub(value, 2, 3)
    if kind == 'e' then last[#last + 1] = entry
    elseif kind == 'f' or at <= now then front[#front + 1] = entry
    else due[#due + 1] = at; due[#due + 1] = id end
  end
end
if #values == 0 then return 0 end
-- HSET is refused when memory is full, and nothing was written before it.
redis.call('HSET', J, unpack(values))
if #last > 0 then redis.call('RPUSH', R, unpack(last)) end
if #front > 0 then
  local reversed = {}
  for i = #front, 1, -1 do reversed[#reversed + 1] = front[i] end
  redis.call('LPUSH', R, unpack(reversed))
  redis.call('HINCRBY', M, 'head', -#front)
end
local wake = #last + #front > 0
if #due > 0 then
  local first = redis.call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', S, unpack(due))
  local earliest = redis.call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
  wake = wake or first ~= earliest
end
if wake then redis.call('ZADD', N, 0, '1') end
redis.call('HINCRBY', M, 'enqueued', #values / 2)
return new

-- Takes jobs into one queue: all of them, or, when the server has no room, none.
-- KEYS  1 jobs  2 ready  3 scheduled  4 wake  5 meta
--       then, for jobs that come from another queue where they are alive: 6 dead  7 epitaphs
-- ARGV  1 how many go to the end  then per such job: id, value
--       then per other job: id, value, place ('f' front, 'a'<ms> due at, 'd'<ms> due after)
-- returns  1 when the server knew nothing of the queue, else 0
local J, R, S, N, M, D, E = unpack(KEYS)
local call, sub = redis.call, string.sub
local ends = tonumber(ARGV[1])
local base = 1 + ends * 2
local others = (#ARGV - base) / 3
-- Types first: a script is not rolled back.
call('LLEN', R); call('ZCARD', S)
local marked = call('ZCARD', N) > 0
local new = call('HLEN', M) == 0 and 1 or 0
local ids = {}
for i = 1, ends do ids[i] = ARGV[i * 2] end
for i = 1, others do ids[ends + i] = ARGV[base + i * 3 - 2] end
-- An id that is already there is left as it is: enqueuing again after an unknown outcome is safe.
local held = call('HMGET', J, unpack(ids))
-- A dead job that is being replayed elsewhere, and comes back before it was taken away here: the living one counts.
local revived = {}
if D then
  call('ZCARD', D); call('HLEN', E)
  for i = 1, #ids do
    if held[i] and call('ZSCORE', D, ids[i]) then held[i] = false; revived[#revived + 1] = ids[i] end
  end
end
local values, last, front, due, seen = {}, {}, {}, {}, {}
for i = 1, ends do
  local id, value = ids[i], ARGV[i * 2 + 1]
  if not held[i] and not seen[id] then
    seen[id] = true
    values[#values + 1] = id
    values[#values + 1] = value
    last[#last + 1] = id .. sub(value, 2, 3)
  end
end
if others > 0 then
  local t = call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  for i = 1, others do
    local id, value, place = ids[ends + i], ARGV[base + i * 3 - 1], ARGV[base + i * 3]
    if not held[ends + i] and not seen[id] then
      seen[id] = true
      values[#values + 1] = id
      values[#values + 1] = value
      local kind, at = sub(place, 1, 1), tonumber(sub(place, 2))
      -- The current millisecond may be as good as over, hence the one more.
      if kind == 'd' and at > 0 then at = now + at + 1 elseif kind == 'd' then at = now end
      if kind == 'f' or at <= now then front[#front + 1] = id .. sub(value, 2, 3)
      else due[#due + 1] = at; due[#due + 1] = id end
    end
  end
end
if #values == 0 then return 0 end
-- HSET is refused when memory is full, and nothing was written before it.
call('HSET', J, unpack(values))
if #revived > 0 then call('ZREM', D, unpack(revived)); call('HDEL', E, unpack(revived)) end
if #last > 0 then call('RPUSH', R, unpack(last)) end
if #front > 0 then
  local reversed = {}
  for i = #front, 1, -1 do reversed[#reversed + 1] = front[i] end
  call('LPUSH', R, unpack(reversed))
  call('HINCRBY', M, 'head', -#front)
end
local wake = #last + #front > 0
if #due > 0 then
  local first = call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
  call('ZADD', S, unpack(due))
  local earliest = call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
  wake = wake or first ~= earliest
end
if wake and not marked then call('ZADD', N, 0, '1') end
call('HINCRBY', M, 'enqueued', #values / 2)
return new

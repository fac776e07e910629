-- Says that a session lives, and which others have not said so in time.
-- KEYS  1 leases  2 claims of the session
-- ARGV  1 session id  2 lease in ms
-- returns  { now, 1 alive or 0 lost, how many more late ones this session should look at, then for up to a thousand
--            others whose lease is over: id, when it was over }
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local alive = redis.call('HEXISTS', KEYS[2], '')
if alive == 1 then
  -- ZREM works on a full server, and ZADD after it does too.
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
end
local out = { now, alive, 0 }
local late = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1000)
if #late == 2000 then
  -- Those that did not fit, shared out among those that live: one survivor looks at all, of many each at few.
  -- Counted by halves: users that were made long ago need no further right for it.
  local all = redis.call('ZCARD', KEYS[1])
  local low, high = 1000, all
  while low < high do
    local middle = math.floor((low + high) / 2)
    local score = redis.call('ZRANGE', KEYS[1], middle, middle, 'WITHSCORES')[2]
    if tonumber(score) <= now then low = middle + 1 else high = middle end
  end
  out[3] = math.ceil((low - 1000) / math.max(all - low, 1))
end
for i = 1, #late do out[3 + i] = late[i] end
return out

-- Ends claims of one session in one queue. Ends whose claim does not hold any more change nothing.
-- KEYS  1 claims of the session  2 jobs  3 ready  4 scheduled  5 dead  6 epitaphs  7 recoveries  8 meta  9 wake
-- ARGV  per claim: id, token, verdict, delay in ms, value, reason
--       verdict: 'D' done, 'X' discard, 'R' retry, 'Z' snooze, 'B' bury, 'U' bury as undecodable, 'L' release,
--       'M' goes on in another queue, with 'R' or 'Z' as the reason; what a verdict does not need is ''
-- returns  per claim 1 when it held, else 0
local P, J, R, S, D, E, X, M, N = unpack(KEYS)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HLEN', P); redis.call('HLEN', J); redis.call('LLEN', R); redis.call('ZCARD', S); redis.call('ZCARD', D)
redis.call('HLEN', E); redis.call('HLEN', X); redis.call('HLEN', M); redis.call('ZCARD', N)
local count = #ARGV / 6
local ids, answers, held, seen = {}, {}, {}, {}
for i = 1, count do ids[i] = ARGV[i * 6 - 5] end
local tokens = redis.call('HMGET', P, unpack(ids))
for i = 1, count do
  answers[i] = 0
  if tokens[i] and tokens[i] == ARGV[i * 6 - 4] and not seen[ids[i]] then
    seen[ids[i]] = true
    answers[i] = 1
    held[#held + 1] = ids[i]
  end
end
if #held == 0 then return answers end
-- HDEL works on a full server, and what follows it in this script does too.
redis.call('HDEL', P, unpack(held))
redis.call('HINCRBY', M, 'running', -#held)
local gone, ready, due, sums, kept = {}, {}, {}, {}, {}
local function sum(name) sums[name] = (sums[name] or 0) + 1 end
for i = 1, count do
  if answers[i] == 1 then
    local id, verdict, delay, value, reason = ids[i], ARGV[i * 6 - 3], ARGV[i * 6 - 2], ARGV[i * 6 - 1], ARGV[i * 6]
    if verdict == 'D' then gone[#gone + 1] = id; sum('succeeded')
    elseif verdict == 'X' then gone[#gone + 1] = id; sum('discarded')
    elseif verdict == 'M' then
      gone[#gone + 1] = id
      if reason == 'R' then sum('failed') end
      -- Counted again where it went.
      sums.enqueued = (sums.enqueued or 0) - 1
    elseif verdict == 'L' then
      local old = redis.call('HGET', J, id)
      if old then ready[#ready + 1] = { tokens[i], id .. string.sub(old, 2, 3) } end
    else
      kept[#kept + 1] = id
      redis.call('HSET', J, id, value)
      if verdict == 'B' or verdict == 'U' then
        -- Deaths of one script, and of one microsecond, keep their order.
        local died = math.max(t[1] * 1000000 + t[2], tonumber(redis.call('HGET', M, 'died_at') or 0) + 1)
        redis.call('HSET', M, 'died_at', string.format('%.0f', died))
        redis.call('ZADD', D, string.format('%.0f', died), id)
        redis.call('HSET', E, id, reason)
        sum('died')
        if verdict == 'B' then sum('failed') end
      else
        if verdict == 'R' then sum('failed') end
        if tonumber(delay) == 0 then ready[#ready + 1] = { tokens[i], id .. string.sub(value, 2, 3) }
        else due[#due + 1] = now + delay + 1; due[#due + 1] = id end
      end
    end
  end
end
if #gone > 0 then redis.call('HDEL', J, unpack(gone)) end
if redis.call('HLEN', X) > 0 then
  -- Recoveries count crashes in a row: any end of an attempt starts them over.
  if #gone > 0 then redis.call('HDEL', X, unpack(gone)) end
  if #kept > 0 then redis.call('HDEL', X, unpack(kept)) end
end
local wake = #ready > 0
if #ready > 0 then
  -- Those claimed first go to the very front, so they are pushed last.
  table.sort(ready, function(a, b) return a[1] > b[1] end)
  local entries = {}
  for i = 1, #ready do entries[i] = ready[i][2] end
  redis.call('LPUSH', R, unpack(entries))
  redis.call('HINCRBY', M, 'head', -#ready)
end
if #due > 0 then
  local first = redis.call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', S, unpack(due))
  wake = wake or first ~= redis.call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
end
if wake then redis.call('ZADD', N, 0, '1') end
for name, n in pairs(sums) do redis.call('HINCRBY', M, name, n) end
return answers

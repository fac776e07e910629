-- Ends claims of one session in one queue. Ends whose claim does not hold any more change nothing.
-- KEYS  1 claims of the session  2 jobs  3 ready  4 scheduled  5 dead  6 epitaphs  7 recoveries  8 meta  9 wake
-- ARGV  1 the claims that end because their job is done: id (16 bytes) and token (21 bytes) of each, without anything
--       in between, for one long value costs less than many short ones
--       then per other claim: id, token, verdict, delay in ms, value, reason
--       verdict: 'X' discard, 'R' retry, 'Z' snooze, 'B' bury, 'U' bury as undecodable, 'L' release,
--       'M' goes on in another queue, with 'R' or 'Z' as the reason; what a verdict does not need is ''
-- returns  1 when all claims held, else { per claim 1 when it held or 0 }
local P, J, R, S, D, E, X, M, N = unpack(KEYS)
local call, sub = redis.call, string.sub
local names = ARGV[1]
local done = #names / 37
local others = (#ARGV - 1) / 6
local count = done + others
-- Types first: a script is not rolled back. What done jobs do not touch need not be looked at for them.
call('HLEN', J); call('HLEN', M)
local recovered = call('HLEN', X) > 0
local t, now
if others > 0 then
  call('LLEN', R); call('ZCARD', S); call('ZCARD', D); call('HLEN', E); call('ZCARD', N)
  t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local ids, answers, held = {}, {}, {}
for i = 1, done do ids[i] = sub(names, i * 37 - 36, i * 37 - 21) end
for i = 1, others do ids[done + i] = ARGV[i * 6 - 4] end
local tokens = call('HMGET', P, unpack(ids))
for i = 1, count do
  local token = i <= done and sub(names, i * 37 - 20, i * 37) or ARGV[(i - done) * 6 - 3]
  if tokens[i] == token then
    answers[i] = 1
    held[#held + 1] = ids[i]
  else
    answers[i] = 0
  end
end
if #held == 0 then return answers end
-- HDEL works on a full server, and what follows it in this script does too.
local ended = call('HDEL', P, unpack(held))
if ended < #held then
  -- A claim was named twice: it ends once.
  local seen = {}
  held = {}
  for i = 1, count do
    if answers[i] == 1 and seen[ids[i]] then answers[i] = 0
    elseif answers[i] == 1 then seen[ids[i]] = true; held[#held + 1] = ids[i] end
  end
end
call('HINCRBY', M, 'running', -ended)
if others == 0 then
  call('HDEL', J, unpack(held))
  if recovered then call('HDEL', X, unpack(held)) end
  call('HINCRBY', M, 'succeeded', ended)
  return ended == count and 1 or answers
end
local gone, ready, due, sums, kept = {}, {}, {}, {}, {}
local function sum(name) sums[name] = (sums[name] or 0) + 1 end
for i = 1, done do
  if answers[i] == 1 then gone[#gone + 1] = ids[i]; sum('succeeded') end
end
for n = 1, others do
  local i, a = done + n, 1 + n * 6
  if answers[i] == 1 then
    local id, verdict, delay, value, reason = ids[i], ARGV[a - 3], ARGV[a - 2], ARGV[a - 1], ARGV[a]
    if verdict == 'X' then gone[#gone + 1] = id; sum('discarded')
    elseif verdict == 'M' then
      gone[#gone + 1] = id
      if reason == 'R' then sum('failed') end
      -- Counted again where it went.
      sums.enqueued = (sums.enqueued or 0) - 1
    elseif verdict == 'L' then
      local old = call('HGET', J, id)
      if old then ready[#ready + 1] = { tokens[i], id .. sub(old, 2, 3) } end
    else
      kept[#kept + 1] = id
      call('HSET', J, id, value)
      if verdict == 'B' or verdict == 'U' then
        -- Deaths of one script, and of one microsecond, keep their order.
        local died = math.max(t[1] * 1000000 + t[2], tonumber(call('HGET', M, 'died_at') or 0) + 1)
        call('HSET', M, 'died_at', string.format('%.0f', died))
        call('ZADD', D, string.format('%.0f', died), id)
        call('HSET', E, id, reason)
        sum('died')
        if verdict == 'B' then sum('failed') end
      else
        if verdict == 'R' then sum('failed') end
        if tonumber(delay) == 0 then ready[#ready + 1] = { tokens[i], id .. sub(value, 2, 3) }
        else due[#due + 1] = now + delay + 1; due[#due + 1] = id end
      end
    end
  end
end
if #gone > 0 then call('HDEL', J, unpack(gone)) end
if recovered then
  -- Recoveries count crashes in a row: any end of an attempt starts them over.
  if #gone > 0 then call('HDEL', X, unpack(gone)) end
  if #kept > 0 then call('HDEL', X, unpack(kept)) end
end
local wake = #ready > 0
if #ready > 0 then
  -- Those claimed first go to the very front, so they are pushed last.
  table.sort(ready, function(a, b) return a[1] > b[1] end)
  local entries = {}
  for i = 1, #ready do entries[i] = ready[i][2] end
  call('LPUSH', R, unpack(entries))
  call('HINCRBY', M, 'head', -#ready)
end
if #due > 0 then
  local first = call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
  call('ZADD', S, unpack(due))
  wake = wake or first ~= call('ZRANGE', S, 0, 0, 'WITHSCORES')[2]
end
if wake then call('ZADD', N, 0, '1') end
for name, n in pairs(sums) do call('HINCRBY', M, name, n) end
return answers

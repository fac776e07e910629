-- Takes the jobs of a dead session, some at a time.
-- KEYS  1 leases  2 claims of the dead session  3 ready  4 scheduled  5 dead  6 epitaphs  7 recoveries  8 meta
--       9 wake  10 jobs
-- ARGV  1 session id  2 its lease as the observer saw it  3 most recoveries  4 pause in ms, a lease  5 how many at most
-- returns  { state (0 not ours, 1 finished, 2 more to do), then per job: id, recoveries, 1 when it was buried or
--            dropped }
local W, P, R, S, D, E, X, M, N, J = unpack(KEYS)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
-- Compare and set: of several observers one wins, and a beat in between saves the owner.
local score = redis.call('ZSCORE', W, ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) or tonumber(score) > now then return { 0 } end
redis.call('LLEN', R); redis.call('ZCARD', S); redis.call('ZCARD', D); redis.call('HLEN', E); redis.call('HLEN', X)
redis.call('ZCARD', N); redis.call('HLEN', J)
local watch = redis.call('HGET', M, 'watch')
-- The field 'stopped' stays while jobs of a session that ended in good order are left; they did not kill it.
local crashed = redis.call('HEXISTS', P, 'stopped') == 0
-- From here on the owner can neither claim nor, job by job, settle.
redis.call('HDEL', P, '')
local all = redis.call('HGETALL', P)
local claims = {}
for i = 1, #all, 2 do
  if #all[i] == 16 then claims[#claims + 1] = { all[i + 1], all[i] } end
end
table.sort(claims, function(a, b) return a[1] < b[1] end)
local n = math.min(#claims, tonumber(ARGV[5]))
local out, taken, ready = { n < #claims and 2 or 1 }, {}, {}
-- Suspects come back apart from each other, see `fetch.lua`: all but one of them are innocent.
local suspects, apart = 0, math.floor(math.min(tonumber(ARGV[4]) / 2, 60000 / math.max(#claims, 1)))
for i = 1, n do taken[i] = claims[i][2] end
if n > 0 then
  redis.call('HDEL', P, unpack(taken))
  redis.call('HINCRBY', M, 'running', -n)
  redis.call('HINCRBY', M, 'recovered', n)
end
for i = 1, n do
  local id = taken[i]
  local value = redis.call('HGET', J, id)
  if value then
    local crashes = tonumber(redis.call('HGET', X, id) or 0)
    if crashed then crashes = redis.call('HINCRBY', X, id, 1) end
    local dead = 0
    if crashes > tonumber(ARGV[3]) then
      dead = 1
      redis.call('HDEL', X, id)
      if string.byte(value, 1) >= 128 then
        redis.call('HDEL', J, id)
        redis.call('HINCRBY', M, 'discarded', 1)
      else
        local died = math.max(t[1] * 1000000 + t[2], tonumber(redis.call('HGET', M, 'died_at') or 0) + 1)
        redis.call('HSET', M, 'died_at', string.format('%.0f', died))
        redis.call('ZADD', D, string.format('%.0f', died), id)
        redis.call('HSET', E, id, 'poison:its worker died ' .. crashes .. ' times in a row')
        redis.call('HINCRBY', M, 'died', 1)
      end
    elseif crashes < 2 then
      ready[#ready + 1] = id .. string.sub(value, 2, 3)
    else
      -- A job that has killed two workers waits before it meets the next one.
      local pause = math.min(tonumber(ARGV[4]) * (crashes - 1), 300000) + suspects * apart
      suspects = suspects + 1
      redis.call('ZADD', S, now + pause, id)
    end
    local o = #out
    out[o + 1] = id; out[o + 2] = crashes; out[o + 3] = dead
  end
end
if #ready > 0 then
  local reversed = {}
  for i = #ready, 1, -1 do reversed[#reversed + 1] = ready[i] end
  redis.call('LPUSH', R, unpack(reversed))
  redis.call('HINCRBY', M, 'head', -#ready)
end
-- It was to wake at the time of the next due job, see `fetch.lua`.
local watched = watch and string.match(watch, '^%d+:%d+:(.*)$') == P
if watched then redis.call('HDEL', M, 'watch') end
if n > 0 or watched then redis.call('ZADD', N, 0, '1') end
if n == #claims then
  redis.call('ZREM', W, ARGV[1])
  redis.call('UNLINK', P)
end
return out

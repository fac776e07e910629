-- Claims jobs for a session, from several queues in order: those whose time has come first, then those in line.
-- KEYS  per queue: jobs, ready, scheduled, wake, meta, recoveries, claims of the session
-- ARGV  1 how many in all  2 the claim's token  3 lease in ms  then per queue: its part of the first pass
-- returns  { now, next due time or '', lost (1 when the session was found dead), then per job:
--            number of its queue, id, value, due time or '', recoveries }
local want, token = tonumber(ARGV[1]), ARGV[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local queues = #KEYS / 7
for q = 0, queues - 1 do
  local k = q * 7
  redis.call('HLEN', KEYS[k + 1]); redis.call('LLEN', KEYS[k + 2]); redis.call('ZCARD', KEYS[k + 3])
  redis.call('ZCARD', KEYS[k + 4]); redis.call('HLEN', KEYS[k + 5]); redis.call('HLEN', KEYS[k + 6])
  if redis.call('HEXISTS', KEYS[k + 7], '') == 0 then return { now, '', 1 } end
end
local out, got = { now, '', 0 }, 0

-- Of several jobs of which each may have killed two workers, one call claims one; the others come back later, one after
-- another. However long nobody was there to claim them, they do not die together.
local suspected = false
local function keep_apart(members, crashes)
  local passed, kept, later = {}, {}, {}
  for i = 1, #members do
    if tonumber(crashes[i] or 0) < 2 then passed[#passed + 1] = i
    elseif not suspected then suspected = true; passed[#passed + 1] = i
    else kept[#kept + 1] = members[i] end
  end
  local apart = math.floor(math.min(tonumber(ARGV[3]) / 2, 60000 / math.max(#kept, 1)))
  for i = 1, #kept do later[#later + 1] = now + apart * i; later[#later + 1] = kept[i] end
  return passed, later
end

local function take(q, n)
  local k = (q - 1) * 7
  local J, R, S, M, X, P = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 5], KEYS[k + 6], KEYS[k + 7]
  local ids, values, due, claims = {}, {}, {}, {}
  local head, tombs = 0, 0
  local scored = redis.call('ZRANGEBYSCORE', S, '-inf', now, 'WITHSCORES', 'LIMIT', 0, n)
  if #scored > 0 then
    local members = {}
    for i = 1, #scored, 2 do members[#members + 1] = scored[i] end
    local found, passed, later = redis.call('HMGET', J, unpack(members)), nil, {}
    if redis.call('HLEN', X) > 0 then
      passed, later = keep_apart(members, redis.call('HMGET', X, unpack(members)))
    end
    redis.call('ZREM', S, unpack(members))
    if #later > 0 then redis.call('ZADD', S, unpack(later)) end
    for p = 1, passed and #passed or #members do
      local i = passed and passed[p] or p
      -- What is no id was put there by somebody else, here and below, and is dropped.
      if found[i] and #members[i] == 16 then
        ids[#ids + 1] = members[i]; values[#values + 1] = found[i]; due[#due + 1] = scored[i * 2]
      end
    end
  end
  while #ids < n do
    -- LPOP works on a full server, and what follows it in this script does too.
    local entries = redis.call('LPOP', R, n - #ids)
    if not entries or #entries == 0 then break end
    head = head + #entries
    local members = {}
    for i = 1, #entries do members[i] = string.sub(entries[i], 1, 16) end
    local found = redis.call('HMGET', J, unpack(members))
    for i = 1, #entries do
      -- An entry of another generation is what a deletion or a move left behind.
      if found[i] and #entries[i] == 18 and string.sub(found[i], 2, 3) == string.sub(entries[i], 17, 18) then
        ids[#ids + 1] = members[i]; values[#values + 1] = found[i]; due[#due + 1] = ''
      else
        tombs = tombs + 1
      end
    end
  end
  if head > 0 then redis.call('HINCRBY', M, 'head', head) end
  -- Below zero by entries that are no leftovers of ours.
  if tombs > 0 and redis.call('HINCRBY', M, 'tombs', -tombs) < 0 then redis.call('HSET', M, 'tombs', 0) end
  if #ids == 0 then return end
  for i = 1, #ids do
    claims[#claims + 1] = ids[i]
    -- The token sorts by claim: the call's number, then the place within the call.
    claims[#claims + 1] = token .. string.format('%04d', got + i)
  end
  redis.call('HSET', P, unpack(claims))
  redis.call('HINCRBY', M, 'running', #ids)
  local crashes = {}
  if redis.call('HLEN', X) > 0 then crashes = redis.call('HMGET', X, unpack(ids)) end
  for i = 1, #ids do
    local o = #out
    out[o + 1] = q; out[o + 2] = ids[i]; out[o + 3] = values[i]; out[o + 4] = due[i]; out[o + 5] = crashes[i] or '0'
  end
  got = got + #ids
end

for q = 1, queues do
  local part = math.min(tonumber(ARGV[3 + q]), want - got)
  if part > 0 then take(q, part) end
end
-- What some queues left unused goes to the others.
for q = 1, queues do
  if got < want then take(q, want - got) end
end
local next
local function mark(N)
  -- ZADD as the first write would be refused on a full server; ZREM and what follows it are not.
  if got == 0 then redis.call('ZREM', N, '') end
  redis.call('ZADD', N, 0, '1')
end
for q = 0, queues - 1 do
  local k = q * 7
  -- Whoever finds more than it can take wakes the next one.
  if redis.call('LLEN', KEYS[k + 2]) > 0 then mark(KEYS[k + 4]) end
  local first = tonumber(redis.call('ZRANGE', KEYS[k + 3], 0, 0, 'WITHSCORES')[2])
  if first and first <= now then mark(KEYS[k + 4]) end
  if first and (not next or first < next) then next = first end
end
if next then out[2] = string.format('%.0f', next) end
return out

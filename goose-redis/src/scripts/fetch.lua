-- Claims jobs for a session, from several queues in order: those whose time has come first, then those in line.
-- KEYS  per queue: jobs, ready, scheduled, wake, meta, recoveries, claims of the session
-- ARGV  1 how many in all  2 the claim's token  3 lease in ms, of which half is the most that suspects are kept apart  4 how long in ms the caller can be relied on to watch for
--       the next due job, or 0 when all callers watch for themselves  5 how many jobs to read at a time: as many as are
--       about a MiB, to the caller's knowledge  then per queue: its part of the first pass
-- returns  { now, next due time when nothing was claimed and the caller is to wake at that time or else '', the numbers of
--            the queues in which the session was found dead (nothing is claimed then),
--            then in the order of the claims: { number of the queue, ids (16 bytes each, in one text), values, due
--            times of the first of them, recoveries (none when all are zero) } }
local call, byte, sub = redis.call, string.byte, string.sub
local want, token, piece = tonumber(ARGV[1]), ARGV[2], math.max(tonumber(ARGV[5]), 1)
-- A slow link must bring an answer in time, and other callers wait for this script: so many bytes are read, and so many
-- leftovers are passed over, and what is behind them is for the next call.
local MOST_BYTES, MOST_LEFTOVERS = 1048576, 1000
local volume, passed_over = 0, 0
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local queues = #KEYS / 7
-- How many are in line, when the first is due, whether the marker is there, how many were recovered before. All of it
-- is read here, which checks the types.
local line, first, marked, watch, suspects, sought = {}, {}, {}, {}, {}, {}
local lost = {}
for q = 1, queues do
  local k = q * 7 - 7
  call('HLEN', KEYS[k + 1])
  line[q] = call('LLEN', KEYS[k + 2])
  first[q] = tonumber(call('ZRANGE', KEYS[k + 3], 0, 0, 'WITHSCORES')[2])
  marked[q] = call('ZCARD', KEYS[k + 4]) > 0
  local m = call('HMGET', KEYS[k + 5], 'watch', 'paused', 'sought')
  watch[q], sought[q] = m[1], m[3]
  -- A paused queue is an empty one for all that follows: nobody is given its jobs, wakes for them, or watches for the
  -- next one that is due. Its end sets the marker.
  if m[2] then line[q], first[q] = 0, nil end
  suspects[q] = call('HLEN', KEYS[k + 6]) > 0
  if call('HEXISTS', KEYS[k + 7], '') == 0 then lost[#lost + 1] = q end
end
if #lost > 0 then return { now, '', lost } end
local out, got = { now, '', lost }, 0

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

-- The token sorts by claim: the call's number, then the place within the call in four digits. Numbers are slow to turn
-- into text, so that happens once for ten.
local digits = { [0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' }
local function claim(P, ids)
  local claims, tens = {}, nil
  for i = 1, #ids do
    local place = got + i
    local unit = place % 10
    if unit == 0 or not tens then tens = token .. string.format('%03d', (place - unit) / 10) end
    claims[i * 2 - 1] = ids[i]
    claims[i * 2] = tens .. digits[unit]
  end
  call('HSET', P, unpack(claims))
end

-- Somebody looks among all sessions for the holder of a job, see `seek.lua`: this claim must not be missed.
local function tell_seekers(M, entries, ids)
  local claimed, left = {}, {}
  for i = 1, #ids do claimed[ids[i]] = true end
  for i = 1, #entries, 37 do
    local age = now - (tonumber(sub(entries, i + 24, i + 36)) or 0)
    if not claimed[sub(entries, i, i + 15)] and age >= 0 and age < 60000 then left[#left + 1] = sub(entries, i, i + 36) end
  end
  if #left == 0 then call('HDEL', M, 'sought')
  elseif #left * 37 < #entries then call('HSET', M, 'sought', table.concat(left)) end
end

local function take(q, n)
  local k = q * 7 - 7
  local J, R, S, M, X, P = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 5], KEYS[k + 6], KEYS[k + 7]
  local ids, values, dues = {}, {}, {}
  local head, tombs = 0, 0
  local function goes_on() return #ids < n and volume < MOST_BYTES and passed_over < MOST_LEFTOVERS end
  while goes_on() and first[q] and first[q] <= now do
    local scored = call('ZRANGEBYSCORE', S, '-inf', now, 'WITHSCORES', 'LIMIT', 0, math.min(piece, n - #ids))
    local members = {}
    for i = 1, #scored, 2 do members[#members + 1] = scored[i] end
    local found, passed, later = call('HMGET', J, unpack(members)), nil, {}
    for i = 1, #members do
      if volume >= MOST_BYTES then members[i] = nil else volume = volume + #(found[i] or '') end
    end
    if suspects[q] then passed, later = keep_apart(members, call('HMGET', X, unpack(members))) end
    call('ZREM', S, unpack(members))
    if #later > 0 then call('ZADD', S, unpack(later)) end
    for p = 1, passed and #passed or #members do
      local i = passed and passed[p] or p
      -- What is no id was put there by somebody else, here and below, and is dropped.
      if found[i] and #members[i] == 16 then
        ids[#ids + 1] = members[i]; values[#values + 1] = found[i]; dues[#dues + 1] = scored[i * 2]
      else
        passed_over = passed_over + 1
      end
    end
    first[q] = tonumber(call('ZRANGE', S, 0, 0, 'WITHSCORES')[2])
    -- One piece of suspects a call, however many there are.
    if #later > 0 then break end
  end
  -- Where nothing but leftovers of little volume are met, more entries are read at a time than are wanted.
  local reach = 1
  while goes_on() and line[q] > 0 do
    -- LPOP works on a full server, and what follows it in this script does too.
    local entries = call('LPOP', R, math.max(math.min(piece, n - #ids), reach))
    local members, before = {}, volume
    for i = 1, #entries do members[i] = sub(entries[i], 1, 16) end
    local found = call('HMGET', J, unpack(members))
    local used, gone, room = #entries, 0, n - #ids
    for i = 1, #entries do
      if found[i] then
        -- An entry of another generation is what a deletion or a move left behind.
        volume = volume + #found[i]
        local a, b = byte(found[i], 2, 3)
        local c, d = byte(entries[i], 17, 18)
        if a ~= c or b ~= d or #entries[i] ~= 18 then found[i] = false; gone = gone + 1 else room = room - 1 end
      else
        gone = gone + 1
      end
      if room == 0 or volume >= MOST_BYTES then used = i; break end
    end
    if used < #entries then
      local back = {}
      for i = #entries, used + 1, -1 do back[#back + 1] = entries[i]; members[i] = nil; found[i] = nil end
      call('LPUSH', R, unpack(back))
    end
    line[q] = line[q] - used
    head = head + used
    tombs = tombs + gone
    passed_over = passed_over + gone
    reach = gone == used and volume - before < 65536 and math.min(reach * 2, 256) or 1
    if gone == 0 and #ids == 0 then
      ids, values = members, found
    else
      for i = 1, used do
        if found[i] then ids[#ids + 1] = members[i]; values[#values + 1] = found[i] end
      end
    end
  end
  if head > 0 then call('HINCRBY', M, 'head', head) end
  -- Below zero by entries that are no leftovers of ours.
  if tombs > 0 and call('HINCRBY', M, 'tombs', -tombs) < 0 then call('HSET', M, 'tombs', 0) end
  if #ids == 0 then return end
  claim(P, ids)
  call('HINCRBY', M, 'running', #ids)
  if sought[q] then tell_seekers(M, sought[q], ids); sought[q] = call('HGET', M, 'sought') end
  out[#out + 1] = { q, table.concat(ids), values, dues, suspects[q] and call('HMGET', X, unpack(ids)) or {} }
  got = got + #ids
end

for q = 1, queues do
  local part = math.min(tonumber(ARGV[5 + q]), want - got)
  if part > 0 then take(q, part) end
end
-- What some queues left unused goes to the others.
for q = 1, queues do
  if got < want then take(q, want - got) end
end
local next
for q = 1, queues do
  local due, M = first[q], KEYS[q * 7 - 2]
  local wake = line[q] > 0 or due and due <= now
  if due and tonumber(ARGV[4]) == 0 then
    -- Who wants nothing sets no timer either: as soon as it has a hand free it asks again.
    if want > 0 and (not next or due < next) then next = due end
  elseif due then
    -- One idle worker sets its timer to the next due job; a thousand would all be here at that time. It is in the field
    -- `watch`, until when it can be relied on, and for which time it has set its timer.
    local me, till, time, watcher = KEYS[q * 7], nil, nil, nil
    if watch[q] then till, time, watcher = string.match(watch[q], '^(%d+):(%d+):(.*)$') end
    till, time = tonumber(till), tonumber(time)
    local is_watched = till and till >= now and till <= now + 60000 and due >= time
    if got > 0 or want == 0 then
      -- Our hands may be full at that time: somebody else's turn.
      if watcher == me then call('HDEL', M, 'watch') end
      wake = wake or watcher == me or not is_watched
    elseif watcher == me or not is_watched then
      -- Refused on a full server: then there are two of them for a while.
      redis.pcall('HSET', M, 'watch', string.format('%.0f:%.0f:', now + ARGV[4], due) .. me)
      if not next or due < next then next = due end
    end
  end
  -- Whoever finds more than it can take wakes the next one.
  if not marked[q] and wake then
    -- ZADD as the first write would be refused on a full server; ZREM and what follows it are not.
    if got == 0 then call('ZREM', KEYS[q * 7 - 3], '') end
    call('ZADD', KEYS[q * 7 - 3], 0, '1')
  end
end
if next and got == 0 then out[2] = string.format('%.0f', next) end
return out

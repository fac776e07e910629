-- Begins to look among all sessions for the holder of a job that waits nowhere else.
-- KEYS  1 jobs  2 scheduled  3 dead  4 meta
-- ARGV  1 id  2 a name for this search, 8 bytes
-- returns  1, or 0 when there is no such job, or it waits elsewhere
-- There may be ten thousand sessions, too many for one script. So they are asked some at a time, and the field `sought`
-- tells whether the job was claimed meanwhile: a claim of it removes the entry, see `fetch.lua`. An entry is 37 bytes: id, name
-- of the search, time in ms. Of a search that never came to its end it goes after a minute.
local J, S, D, M = unpack(KEYS)
local id = ARGV[1]
if redis.call('HEXISTS', J, id) == 0 or redis.call('ZSCORE', S, id) or redis.call('ZSCORE', D, id) then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local sought, kept = redis.call('HGET', M, 'sought') or '', {}
for i = 1, #sought, 37 do
  local entry = string.sub(sought, i, i + 36)
  local age = now - (tonumber(string.sub(entry, 25)) or 0)
  if age >= 0 and age < 60000 then kept[#kept + 1] = entry end
end
kept[#kept + 1] = id .. ARGV[2] .. string.format('%013.0f', now)
-- HDEL works on a full server, and what follows it in this script does too.
redis.call('HDEL', M, 'sought')
redis.call('HSET', M, 'sought', table.concat(kept))
return 1

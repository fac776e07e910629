-- A page of the jobs in line.
-- KEYS  1 jobs  2 ready  3 meta
-- ARGV  1 the place after which to begin, '' for the head  2 how many entries to look at
-- returns  { place of the last entry looked at, or '' at the end, then per job: id, value }
-- A place counts from where the list once began, so it stays true while the head moves.
local head = tonumber(redis.call('HGET', KEYS[3], 'head') or 0)
local start = 0
if ARGV[1] ~= '' then start = math.max(0, tonumber(ARGV[1]) + 1 - head) end
local entries = redis.call('LRANGE', KEYS[2], start, start + ARGV[2] - 1)
local out = { '' }
if #entries == 0 then return out end
if #entries == tonumber(ARGV[2]) then out[1] = string.format('%.0f', head + start + #entries - 1) end
local ids = {}
for i = 1, #entries do ids[i] = string.sub(entries[i], 1, 16) end
local values = redis.call('HMGET', KEYS[1], unpack(ids))
for i = 1, #entries do
  if values[i] and string.sub(values[i], 2, 3) == string.sub(entries[i], 17, 18) then
    out[#out + 1] = ids[i]
    out[#out + 1] = values[i]
  end
end
return out

-- The names of all queues.
-- KEYS  1 the set of names
-- returns  { 0, then the names }; the number comes first for a reason, see `connection::link`
local out = redis.call('SMEMBERS', KEYS[1])
table.insert(out, 1, 0)
return out

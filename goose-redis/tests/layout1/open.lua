-- Opens a session on one queue.
-- KEYS  1 leases  2 claims of the session
-- ARGV  1 session id  2 lease in ms  3 description, longer than 64 bytes
-- returns  the server's time in ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HLEN', KEYS[2])
-- ZREM works on a full server, and what follows it in this script does too: workers are what makes room.
redis.call('ZREM', KEYS[1], ARGV[1])
-- The empty field says that the session lives. Its length makes the server keep the hash as a table, not as a
-- list that each claim would walk through.
redis.call('HSET', KEYS[2], '', ARGV[3])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return now

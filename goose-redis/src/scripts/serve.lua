-- Notes that queues have sessions, or that there are these queues.
-- KEYS  1 the set of names
-- ARGV  the names
-- SREM works on a full server, and what follows it does too: those who make room must be able to start.
redis.call('SREM', KEYS[1], '')
return redis.call('SADD', KEYS[1], unpack(ARGV))

-- Stops or starts the jobs of a queue, for everybody.
-- KEYS  1 meta  2 wake
-- ARGV  1 what: 'p' pause, 'r' resume
-- returns  1 when that changed anything, else 0
redis.call('ZCARD', KEYS[2])
local is_paused = redis.call('HEXISTS', KEYS[1], 'paused') == 1
if is_paused == (ARGV[1] == 'p') then return 0 end
-- ZREM works on a full server, and what follows it in this script does too.
redis.call('ZREM', KEYS[2], '1')
-- Nobody sets a timer for a queue that is paused, see `fetch.lua`: whoever asks first afterwards does.
redis.call('HDEL', KEYS[1], 'watch')
if is_paused then
  redis.call('HDEL', KEYS[1], 'paused')
  redis.call('ZADD', KEYS[2], 0, '1')
else
  redis.call('HSET', KEYS[1], 'paused', '1')
end
return 1

-- Whether one of some sessions has claimed a job.
-- KEYS  the claims of some sessions of one queue
-- ARGV  1 id
-- returns  1 or 0
for i = 1, #KEYS do
  if redis.call('HEXISTS', KEYS[i], ARGV[1]) == 1 then return 1 end
end
return 0

-- Count the messages that workers take before a given one.
-- KEYS     the lists of one queue, in the order in which workers take from them (by priority).
--          Celery puts in at the left and takes from the right.
-- ARGV[1]  what only that message contains.  ARGV[2]  how many messages to look at, at most.
-- Answers how many are before it; -1 if it was not among those that were looked at.

local ahead, left = 0, tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
  local length = redis.call('LLEN', key)
  for n = 1, math.min(length, left) do
    if string.find(redis.call('LINDEX', key, -n), ARGV[1], 1, true) then return ahead + n - 1 end
  end
  left = left - length
  if left <= 0 then return -1 end
  ahead = ahead + length
end
return -1

-- Replace the state of a task in Celery's result backend, if it is still the one that is known.
-- KEYS[1]  Celery's key of the task, which is also the channel that a waiting get() listens to.
-- ARGV[1]  the state that is expected there, as bytes; '' for none.  ARGV[2]  the new state.
-- ARGV[3]  its life in seconds; 0 for ever.
-- Answers '' when it was replaced; when not, what stands there, or a zero byte for nothing.

local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found == '' and '\0' or found end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SETEX', KEYS[1], ARGV[3], ARGV[2])
end
redis.call('PUBLISH', KEYS[1], ARGV[2])
return ''

-- Compare and set one small value, the history of a task.
-- KEYS[1]  "<prefix>:%history:<task>", with ":<group>" behind it for a group of calls.  A string.
-- ARGV[1]  what is expected there; '' for nothing.  ARGV[2]  the new value.  ARGV[3]  its life, in ms.
-- Answers what is there afterwards; '' for nothing.

local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]

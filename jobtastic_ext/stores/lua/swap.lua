-- Compare and set one small value, such as the history of a task.
-- KEYS[1]  as "<prefix>:%history:<task>", with ":<group>" behind it for a group of calls.  A string.
-- ARGV[1]  what is expected there; '' for nothing.  ARGV[2]  the new value.  ARGV[3]  its life, in ms.
-- Answers 1 when it was done, 0 when something else is there.

if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1

-- Add to the counts of a task in an hour, once.
-- KEYS[1]  "<prefix>:%counts:<task>:<hour since 1970>".  A hash: the names of what was counted and how
--          often; under '' the marks of the latest additions, 12 hexadecimal digits each.
-- ARGV[1]  the mark of this addition.  ARGV[2]  the life of the key, in ms.  Then a name and a number,
--          again and again.
-- Answers 1 when it was done, 0 when it had been done before.

local MOST_WRITERS = 16
local LENGTH = 12

local marks = redis.call('HGET', KEYS[1], '') or ''
for at = 1, #marks, LENGTH do
  if string.sub(marks, at, at + LENGTH - 1) == ARGV[1] then return 0 end
end
for at = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('HSET', KEYS[1], '', string.sub(marks .. ARGV[1], -MOST_WRITERS * LENGTH))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

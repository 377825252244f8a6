-- Add to the counts of a task in an hour, once.
-- KEYS[1]  "<prefix>:%counts:<task>:<hour since 1970>".  A hash: the names of what was counted and how
--          often; under '' the last mark of each writer, the longest silent first.
-- ARGV[1]  the mark of this addition: 12 hexadecimal digits that name the writer, and 8 that count up.
-- ARGV[2]  the life of the key, in ms.  Then a name and a number, again and again.
-- Answers 1 when it was done, 0 when it had been done before.

local MOST_WRITERS = 512
local WRITER, LENGTH = 12, 20

local marks = redis.call('HGET', KEYS[1], '') or ''
local writer = string.sub(ARGV[1], 1, WRITER)
local at = string.find(marks, writer, 1, true)
while at and at % LENGTH ~= 1 do at = string.find(marks, writer, at + 1, true) end
if at then
  local last = string.sub(marks, at + WRITER, at + LENGTH - 1)
  if tonumber(string.sub(ARGV[1], WRITER + 1), 16) <= tonumber(last, 16) then return 0 end
  marks = string.sub(marks, 1, at - 1) .. string.sub(marks, at + LENGTH)
end
for each = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[each], ARGV[each + 1]) end
redis.call('HSET', KEYS[1], '', string.sub(marks .. ARGV[1], -MOST_WRITERS * LENGTH))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

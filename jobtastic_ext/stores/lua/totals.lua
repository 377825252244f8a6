-- Answers what was counted under each of the KEYS, as HGETALL does; see `add.lua`.

local found = {}
for place, key in ipairs(KEYS) do found[place] = redis.call('HGETALL', key) end
return found

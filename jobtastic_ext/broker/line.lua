-- Messages that wait in the broker's Redis, beside Celery's queues: parked, woken, looked after.
--
-- A message lies where kombu keeps those that are delivered and not yet acknowledged, so that any
-- worker of Celery puts it back in its queue in the end, also one that knows nothing of lines:
-- KEYS[1]  `unacked`: a hash, tag -> "[message, exchange, routing key]".
-- KEYS[2]  `unacked_index`: a sorted set, tag -> when it was delivered, in seconds.
-- Kombu's tags are those within the messages, ours others: what was put back and is given to a
-- worker lies under kombu's alone.
-- Two are ours:
-- KEYS[3]  "<prefix>jobtastic.lines": a sorted set, call key -> when its first message is looked at.
-- KEYS[4]  "<prefix>jobtastic.line:<call key>": a list, first come first, of
--          "<bytes of the message> <tag> <list that it belongs to>".
-- ARGV[1]  what is done:
-- park     [2] call key, [3] in how many ms it is looked at, [4] 1 if it goes to the front,
--          [5] tag, [6] what `unacked` is to hold, [7] the entry, [8] s beyond kombu's own.
-- wake     [2] call key, [3] how many at most, [4] 1 to serve them first, else they go to the end of
--          their queues.  Answers how many there were.
-- count    Answers how many there are.
-- look     [2] the prefix of lists, [3] in how many ms again, [4] how many lines at most.  Wakes the
--          first message of each line whose time has come.

local unacked, index, lines = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
--: A list that nobody has touched for so long has no messages any more: kombu has put them back.
local LIFE = 172800000

-- Put the first message of a line back in its queue; nil if there is none.
local function wake(line, first)
  while true do
    local entry = redis.call('LPOP', line)
    if not entry then return nil end
    local size, tag, queue = string.match(entry, '^(%d+) (%S+) (.*)$')
    local held = redis.call('HGET', unacked, tag)
    redis.call('HDEL', unacked, tag)
    redis.call('ZREM', index, tag)
    if held then -- else kombu has put it back
      redis.call(first and 'RPUSH' or 'LPUSH', queue, string.sub(held, 2, 1 + size))
      return true
    end
  end
end

if ARGV[1] == 'park' then
  local key, due = ARGV[2], now + ARGV[3]
  redis.call('HSET', unacked, ARGV[5], ARGV[6])
  redis.call('ZADD', index, string.format('%.3f', now / 1000 + ARGV[8]), ARGV[5])
  redis.call(ARGV[4] == '1' and 'LPUSH' or 'RPUSH', KEYS[4], ARGV[7])
  redis.call('PEXPIRE', KEYS[4], LIFE)
  local known = redis.call('ZSCORE', lines, key)
  if not known or tonumber(known) > due then
    redis.call('ZADD', lines, string.format('%.0f', due), key)
  end
  return 1
end

if ARGV[1] == 'wake' then
  local count = 0
  while count < tonumber(ARGV[3]) and wake(KEYS[4], ARGV[4] == '1') do count = count + 1 end
  if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('ZREM', lines, ARGV[2]) end
  return count
end

if ARGV[1] == 'count' then return redis.call('LLEN', KEYS[4]) end

local due = redis.call('ZRANGEBYSCORE', lines, 0, now, 'LIMIT', 0, ARGV[4])
for _, key in ipairs(due) do
  local line = ARGV[2] .. key
  wake(line, true)
  if redis.call('EXISTS', line) == 0 then
    redis.call('ZREM', lines, key)
  else
    redis.call('ZADD', lines, string.format('%.0f', now + ARGV[3]), key)
  end
end
return #due

-- A caller claims a key that nobody holds: the commonest case, without the machinery of the others.
-- It is what `claim.lua` does with an empty claim, and is held equal to it by the same tests.
-- KEYS[1]  the call key.
-- ARGV[1]  `ClaimCall`.  ARGV[2]  only in tests: the time.

-- Store a claim that is nothing but this holder.
local function store_holder(holder, now)
  local encoded, ends = cjson.encode{ holder = holder }, holder['until'] + 3600000
  if ends >= 90000000000000 then
    redis.call('SET', KEYS[1], encoded)
  else
    redis.call('SET', KEYS[1], encoded, 'PX', string.format('%.0f', ends - now))
  end
end

if redis.call('EXISTS', KEYS[1]) == 0 then
  local op = cjson.decode(ARGV[1])
  if op.hold > 0 then
    local now = tonumber(ARGV[2])
    if not now then
      local time = redis.call('TIME')
      now = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    local due = 0
    if not op.refresh then
      if op.debounce then due = now + math.min(op.debounce, op.debounce_max or 0) end
      if op.countdown then due = math.max(due, now + op.countdown) end
      due = math.min(due, 90000000000000)
    end
    local ends = math.min(math.max(now, due) + op.hold, 90000000000000)
    local holder = {
      state = 'queued', owner = op.task_id, gen = op.gen, ['until'] = ends,
      at = now, group = op.group, due = due > 0 and due or nil,
      looked = due > 0 and due or nil,
      expires = op.expires and math.min(now + op.expires, 90000000000000),
    }
    store_holder(holder, now)
    return cjson.encode{
      word = 'claimed', id = op.task_id, gen = op.gen, at = now, rest = math.max(due - now, 0),
    }
  end
end

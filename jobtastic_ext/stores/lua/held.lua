-- A caller meets a call that is under way, one that waits, or a result that is fresh, and at most the
-- time of what waits is to be written: without the machinery of the other cases.  Whatever is not as
-- plain as that is left to it.
-- It is what `claim.lua` does, and is held equal to it by the same tests.
-- KEYS[1]  the call key.
-- ARGV[1]  `ClaimCall`.  ARGV[2]  only in tests: the time.  ARGV[3] and more: see `look.lua`.

local CALL = {
  op = true, task_id = true, gen = true, hold = true, group = true, expires = true,
  buffer = true, debounce = true, debounce_max = true, arguments = true,
}
local PARTS = {
  holder = {
    state = 'string', owner = 'string', gen = 'string', run = 'string', group = 'string',
    ['until'] = 'number', at = 'number', looked = 'number', herd = 'number', attempt = 'number',
    due = 'number', arguments = 'string', followed = 'boolean',
    next = 'string', next_gen = 'string', next_at = 'number', next_due = 'number',
    next_arguments = 'string', unmarked = 'boolean',
  },
  value = {
    owner = 'string', gen = 'string', group = 'string', failed = 'boolean', bare = 'boolean',
    attempt = 'number', began = 'number', ended = 'number',
    fresh = 'number', stale = 'number', kept = 'number',
  },
}

-- The kind of the only part that the claim has, and its fields, if they are known and in order.
local function only_part(raw)
  local understood, claim = pcall(cjson.decode, raw)
  if not understood or type(claim) ~= 'table' then return nil end
  local kind, part = next(claim)
  local fields = kind and PARTS[kind]
  if not fields or next(claim, kind) or type(part) ~= 'table' then return nil end
  for name, field in pairs(part) do
    local wanted = fields[name]
    if type(field) ~= wanted then return nil end
    if wanted == 'string' and string.find(field, '[\128-\255]') then return nil end
    if wanted == 'number' and (field ~= math.floor(field) or math.abs(field) > 90000000000000) then
      return nil
    end
  end
  return kind, part
end

-- A call that is to be served by a run that begins later: by the next one, or by the message that
-- is not due yet, which it puts off.
local function waits_for(call, part, now)
  local due, at = part.due or 0, part.at or 0
  if part.state == 'running' and part.next and not call.debounce and not call.arguments then
    return part.next, part.next_gen or ''
  end
  local idle = part.state == 'queued' and not part.next and (part.attempt or 0) == 0
  if not idle or not call.debounce or now >= due then return nil end
  local first = at ~= 0 and at or now
  local quiet = math.min(now + call.debounce, first + (call.debounce_max or 0))
  part.due = math.min(math.max(due, quiet), 90000000000000)
  part['until'] = math.min(part.due + part['until'] - due, 90000000000000)
  part.looked = math.min(part.looked or 0, part.due)
  if now - math.max(at, part.looked) >= 1000 then return nil end
  part.arguments = call.arguments or part.arguments
  store_holder(part, now)
  return part.owner, part.gen
end

local function met()
  local raw = redis.pcall('GET', KEYS[1])
  if type(raw) ~= 'string' then return nil end
  local call = cjson.decode(ARGV[1])
  for name in pairs(call) do
    if not CALL[name] then return nil end
  end
  local kind, part = only_part(raw)
  if not kind or not part.owner or not part.gen or part.owner == call.task_id then return nil end
  local now = tonumber(ARGV[2])
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local function told(word, looks)
    local reply = cjson.encode{ word = word, id = part.owner, gen = part.gen, at = now }
    return looks and ARGV[3] and { reply, stored_result(part.owner) } or reply
  end
  if kind == 'value' then
    if now >= (part.fresh or 0) then return nil end
    return told('cached', true)
  end
  if call.hold == 0 or now >= (part['until'] or 0) then return nil end
  if call.buffer then
    local id, gen = waits_for(call, part, now)
    return id and cjson.encode{ word = 'joined', id = id, gen = gen, at = now }
  end
  if part.next or part.due or call.debounce or call.arguments then return nil end
  if part.state == 'queued' then
    -- After a moment somebody looks whether it has ended.
    if now - math.max(part.at or 0, part.looked or 0) >= 1000 then return nil end
  elseif part.state ~= 'running' or now >= (part.herd or 0) then
    return nil
  elseif part.unmarked then
    return told('unmarked', true)
  end
  return told('joined')
end

local reply = met()
if reply then return reply end

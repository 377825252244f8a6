-- The head of every script: the claim under KEYS[1], what it looks like, and how it is saved.
--
-- KEYS[1]  a call key, "<prefix>:<hash>".  A string: one claim as JSON, the shape of
--          `jobtastic_ext.claims.records.Claim` with defaults left out.  It expires when the claim does
--          (`jobtastic_ext.claims.lifetime.expiry`); a claim that ends with `FOREVER` has no expiry.
-- ARGV[1]  the operation as JSON, the shape of its record in `jobtastic_ext.claims.records`.
-- ARGV[2]  only in tests: the time, in ms, instead of the server's clock.
--
-- A script answers {word, task id, generation, time, other ids, where messages wait that are to be
-- woken, in how long nobody waits any more or it is due, arguments, 1 if a run that never ended had
-- it}, and a tenth element, 1, when what was stored under the key was not a claim.  Records are never
-- changed in place, as in `rules.py`;
-- so what is still the same table, or holds the same fields, need not be written.

local FOREVER = 90000000000000
local LINGER = 3600000
local MOMENT = 1000
local MOST_MARKS = 32
local MOST_BESIDE = 32
local MOST_ORPHANS = 32
local MOST_PLACES = 8
local NOBODY = {}

local HOLDER = { state = 'string', owner = 'string', gen = 'string', ['until'] = 'number' }
local HOLDER_DEFAULTS = {
  run = '', at = 0, looked = 0, herd = 0, attempt = 0, expires = 0, followed = false,
  group = '', next = '', next_gen = '', ending = false, unmarked = false, taker = '', bare = false,
  orphans = NOBODY, waiting = '', line = false,
  next_at = 0, next_due = 0, next_arguments = '', due = 0, outrun = 0, arguments = '',
}
local STARTED_DEFAULTS = { silent = false }
local STARTED = { owner = 'string', gen = 'string', at = 'number', ['until'] = 'number' }
local VALUE = { owner = 'string', gen = 'string' }
local VALUE_DEFAULTS = {
  group = '', failed = false, bare = false, attempt = 0, began = 0, ended = 0,
  fresh = 0, stale = 0, kept = 0,
}
local OPERATION_DEFAULTS = {
  gen = '', group = '', gone = '', run = '', attempt = 0, give_up = 0, arrival = 0, pinned = false,
  refresh = false, expires = 0, exclusive = false, failed = false, unclaimed = false,
  since = 0, after = '', bare = false, redelivered = false, unserved = false, unmarked = false,
  silent = false, waited = '', parked = '', line = false,
  buffer = false, starts = false, unique = 0, readable = false, well = false,
  debounce = 0, debounce_max = 0, countdown = 0, arguments = '', heed = false,
}

local HOLDER_META = { __index = HOLDER_DEFAULTS }
local VALUE_META = { __index = VALUE_DEFAULTS }

local key = KEYS[1]
local op = setmetatable(cjson.decode(ARGV[1]), { __index = OPERATION_DEFAULTS })
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function later_than(moment, length)
  return math.min(moment + length, FOREVER)
end

local function later(length)
  return later_than(now, length)
end

-- A claim with that holder and value, and the rest of another one.
local function Claim(holder, value, rest)
  return {
    holder = holder, value = value, started = rest.started, beside = rest.beside,
    tombstones = rest.tombstones, arrivals = rest.arrivals,
  }
end

local EMPTY = Claim(nil, nil, { beside = {}, tombstones = {}, arrivals = {} })

local function Holder(fields)
  return setmetatable(fields, HOLDER_META)
end

local function Value(fields)
  return setmetatable(fields, VALUE_META)
end

-- A copy of `holder` with other `fields`.
local function with(holder, fields)
  local copy = {}
  for name, field in pairs(holder) do copy[name] = field end
  for name, field in pairs(fields) do copy[name] = field end
  return Holder(copy)
end

-- Whether identical calls wait for this holder.
local function is_held(holder)
  if not holder or now >= holder['until'] then return false end
  return holder.state == 'queued' or now < holder.herd
end

-- Whether its task has begun: it runs, or is to be retried.
local function has_begun(holder)
  return holder.state == 'running' or holder.attempt > 0
end

-- Whether it may have ended, with success, although nobody has said so.
local function is_unmarked(holder)
  return holder.unmarked and holder.state == 'running'
end

-- Whether it is a run that never ended: its lease is over.
local function has_left(holder)
  return holder and holder.state == 'running' and now >= holder['until']
end

-- Whether the claim is held by this run (of a worker's any child, if `run` ends in a dot).
local function is_run(holder, task_id, run)
  if not holder or holder.state ~= 'running' or holder.owner ~= task_id then return false end
  if holder.run == run then return true end
  return string.sub(run, -1) == '.' and string.sub(holder.run, 1, #run) == run
end

-- Whether the claim is as the caller left it: no worker has its message, no other sent it.
local function is_unsent(holder)
  if not holder then return false end
  if holder.next == op.task_id then return true end
  local mine = holder.state == 'queued' and holder.owner == op.task_id and holder.gen == op.gen
  return mine and holder.taker == '' and holder.attempt == 0
end

-- What became of messages, and of one more; of so many at most.
local function marked(marks, message, length)
  local copy, count = {}, 0
  for name, ends in pairs(marks) do copy[name] = ends end
  copy[message] = later(length)
  local oldest
  for name, ends in pairs(copy) do
    count = count + 1
    if not oldest or ends < copy[oldest] or (ends == copy[oldest] and name < oldest) then
      oldest = name
    end
  end
  if count > MOST_MARKS then copy[oldest] = nil end
  return copy
end

-- `claim` with the mark of a message that was given up, or has arrived.
local function given_up(claim, message, length)
  local changed = Claim(claim.holder, claim.value, claim)
  changed.tombstones = marked(claim.tombstones, message, length)
  return changed
end

local function arrived(claim, message, length)
  local changed = Claim(claim.holder, claim.value, claim)
  changed.arrivals = marked(claim.arrivals, message, length)
  return changed
end

-- Join places at which messages are parked.
local function both(places, others)
  if places == '' or others == '' then return places .. others end
  local seen, joined = {}, {}
  for place in string.gmatch(places .. ' ' .. others, '[^ ]+') do
    if not seen[place] and #joined < MOST_PLACES then joined[#joined + 1] = place end
    seen[place] = true
  end
  return table.concat(joined, ' ')
end

-- Keep the claim for whoever is woken, so that nobody passes the line.
local function kept_for_line(hold)
  return Holder{
    state = 'queued', owner = '', gen = '', ['until'] = later(hold), at = now, line = true,
  }
end

-- Remember those who are left without an outcome, as a claim whose time is over.
local function unserved(ids, gen)
  if #ids == 0 then return nil end
  local rest = NOBODY
  if #ids > 1 then rest = { unpack(ids, 2) } end
  return Holder{
    state = 'queued', owner = ids[1], gen = gen, ['until'] = now, expires = now, orphans = rest,
  }
end

-- Who holds the claim when `holder` lets go: the refresh that waits, or who is left unserved.
local function after(holder, hold, orphans)
  if holder.next ~= '' then
    return Holder{
      state = 'queued', owner = holder.next, gen = holder.next_gen,
      ['until'] = later_than(math.max(now, holder.next_due), hold), due = holder.next_due,
      at = holder.next_at ~= 0 and holder.next_at or now, looked = holder.next_due,
      arguments = holder.next_arguments, outrun = holder.outrun, orphans = orphans,
    }
  end
  return unserved(orphans, holder.gen)
end

-- Until when the end of this run is remembered: at least as long as that of the run before.
local function remembered(holder, value, keep)
  local ends = value and value.kept or 0
  if not holder or not (holder.followed or now < holder.outrun) then
    return math.max(ends, later(keep))
  end
  return math.max(ends, later_than(math.max(now, holder.outrun), math.max(keep, LINGER)))
end

-- Everybody who loses the claim to `task_id`, but for `spared`.
local function displaced(holder, task_id, spared)
  if not holder then return NOBODY end
  local seen, ids = { [''] = true, [task_id] = true }, {}
  local function add(id)
    if not seen[id] then
      seen[id] = true
      ids[#ids + 1] = id
    end
  end
  for _, id in ipairs(holder.orphans) do add(id) end
  add(holder.owner)
  add(holder.next)
  local kept = {}
  for index = math.max(1, #ids - MOST_ORPHANS + 1), #ids do
    if ids[index] ~= spared then kept[#kept + 1] = ids[index] end
  end
  if #kept == 0 then return NOBODY end
  return kept
end

local function expiry(claim)
  local last = 0
  for _, ends in pairs(claim.tombstones) do last = math.max(last, ends) end
  for _, ends in pairs(claim.arrivals) do last = math.max(last, ends) end
  for _, run in pairs(claim.beside) do last = math.max(last, run['until'] + LINGER) end
  if claim.started then last = math.max(last, claim.started['until']) end
  if claim.holder then last = math.max(last, claim.holder['until'] + LINGER) end
  if claim.value then
    last = math.max(last, claim.value.fresh, claim.value.stale, claim.value.kept)
  end
  return math.min(last, FOREVER)
end

-- Whether Python, too, reads it as a text: it is UTF-8.
local function is_text(field)
  if type(field) ~= 'string' then return false end
  if not string.find(field, '[\128-\255]') then return true end
  local rest = string.gsub(field, '[%z\1-\127]+', '')
  rest = string.gsub(rest, '[\194-\223][\128-\191]', '')
  rest = string.gsub(rest, '\224[\160-\191][\128-\191]', '')
  rest = string.gsub(rest, '[\225-\236\238\239][\128-\191][\128-\191]', '')
  rest = string.gsub(rest, '\237[\128-\159][\128-\191]', '')
  rest = string.gsub(rest, '\240[\144-\191][\128-\191][\128-\191]', '')
  rest = string.gsub(rest, '[\241-\243][\128-\191][\128-\191][\128-\191]', '')
  return string.gsub(rest, '\244[\128-\143][\128-\191][\128-\191]', '') == ''
end

-- Whether it is a whole number that JSON writes in full.
local function is_whole(field)
  return type(field) == 'number' and field == math.floor(field) and math.abs(field) <= FOREVER
end

local function is_sound(field, kind)
  if kind == 'string' then return is_text(field) end
  if kind == 'number' then return is_whole(field) end
  return type(field) == kind
end

local function is_record(fields, needed, defaults)
  if type(fields) ~= 'table' then return false end
  for name, kind in pairs(needed) do
    if not is_sound(fields[name], kind) then return false end
  end
  for name, field in pairs(fields) do
    local default = defaults[name]
    if default ~= nil and not is_sound(field, type(default)) then return false end
  end
  return true
end

-- Whether it is a table of names and times.
local function are_marks(marks)
  if type(marks) ~= 'table' then return false end
  for name, ends in pairs(marks) do
    if not is_text(name) or not is_whole(ends) then return false end
  end
  return true
end

-- Make what was decoded a holder; false if it is none.
local function read_holder(holder)
  if not is_record(holder, HOLDER, HOLDER_DEFAULTS) then return false end
  if holder.state ~= 'queued' and holder.state ~= 'running' then return false end
  for place, id in pairs(holder.orphans or NOBODY) do
    if type(place) ~= 'number' or not is_text(id) then return false end
  end
  if holder.orphans and #holder.orphans == 0 then
    holder.orphans = nil -- an empty table would be encoded as an object
  end
  setmetatable(holder, HOLDER_META)
  return true
end

-- The same for the runs that hold nobody up.
local function read_beside(beside)
  if type(beside) ~= 'table' then return false end
  for name, run in pairs(beside) do
    if not is_text(name) or not read_holder(run) then return false end
  end
  return true
end

-- The claim that `raw` encodes; nil if it encodes none.
local function decode(raw)
  local understood, claim = pcall(cjson.decode, raw)
  if not understood or type(claim) ~= 'table' then return nil end
  local holder, value = claim.holder, claim.value
  local rest = {
    started = claim.started, beside = claim.beside or {},
    tombstones = claim.tombstones or {}, arrivals = claim.arrivals or {},
  }
  if not (holder or value or claim.started or claim.beside or claim.tombstones or claim.arrivals) then
    return nil
  end
  if holder ~= nil and not read_holder(holder) then return nil end
  if claim.started ~= nil and not is_record(claim.started, STARTED, STARTED_DEFAULTS) then
    return nil
  end
  if not read_beside(rest.beside) then return nil end
  if value ~= nil then
    if not is_record(value, VALUE, VALUE_DEFAULTS) then return nil end
    setmetatable(value, VALUE_META)
  end
  if not are_marks(rest.tombstones) or not are_marks(rest.arrivals) then return nil end
  return Claim(holder, value, rest)
end

local function unexpired(marks)
  local kept = {}
  for name, ends in pairs(marks) do
    if now < ends then kept[name] = ends end
  end
  return kept
end

-- Forget what time has ended.
local function prune(claim)
  if expiry(claim) <= now then return EMPTY end
  local value = claim.value
  if value and now >= math.max(value.fresh, value.stale, value.kept) then value = nil end
  local started, beside = claim.started, {}
  if started and now >= started['until'] then started = nil end
  for name, run in pairs(claim.beside) do
    if now < run['until'] + LINGER then beside[name] = run end
  end
  return Claim(claim.holder, value, {
    started = started, beside = beside,
    tombstones = unexpired(claim.tombstones), arrivals = unexpired(claim.arrivals),
  })
end

local function same(one, other)
  if one == other then return true end
  if not one or not other then return false end
  for name, field in pairs(one) do
    if other[name] ~= field then return false end
  end
  for name, field in pairs(other) do
    if one[name] ~= field then return false end
  end
  return true
end

-- `fields` without those that have their default.
local function sparse(fields, defaults)
  if not fields then return nil end
  local copy = {}
  for name, field in pairs(fields) do
    if defaults[name] ~= field then copy[name] = field end
  end
  return copy
end

local function encode(claim)
  local beside = {}
  for name, run in pairs(claim.beside) do beside[name] = sparse(run, HOLDER_DEFAULTS) end
  return cjson.encode{
    started = claim.started, beside = next(beside) and beside or nil,
    holder = sparse(claim.holder, HOLDER_DEFAULTS),
    value = sparse(claim.value, VALUE_DEFAULTS),
    tombstones = next(claim.tombstones) and claim.tombstones or nil,
    arrivals = next(claim.arrivals) and claim.arrivals or nil,
  }
end

-- What is stored under the key, pruned; and 1 if it was not a claim.
local function load()
  local raw = redis.pcall('GET', key)
  if type(raw) == 'table' then
    if not string.find(raw.err, 'WRONGTYPE', 1, true) then
      redis.call('GET', key) -- raises the error again, whatever it is
    end
    return EMPTY, 1
  end
  if not raw then return EMPTY, nil end
  local claim = decode(raw)
  if not claim then return EMPTY, 1 end
  return prune(claim), nil
end

local stored, foreign = load()
local claim = stored
-- The task whose place beside the claim is seen as the claim; see `jobtastic_ext.claims.beside`.
local place = nil

-- Whether the claim is held for the message of this task.
local function awaits(holder, id)
  return holder and holder.state == 'queued' and holder.owner == id
end

-- See the claim as it is for the run of that task, which holds it there.
local function see_from(name)
  place = name
  local others = {}
  for other, run in pairs(stored.beside) do
    if other ~= name then others[other] = run end
  end
  claim = Claim(stored.beside[name], stored.value, stored)
  claim.beside = others
end

-- `claim` with its holder beside it.
local function stand_beside(changed)
  local beside, count, oldest = {}, 0, nil
  for name, run in pairs(changed.beside) do beside[name] = run end
  if changed.holder then beside[changed.holder.owner] = changed.holder end
  for name, run in pairs(beside) do
    count = count + 1
    local ends, first = run['until'], oldest and beside[oldest]['until']
    if not oldest or ends < first or (ends == first and name < oldest) then oldest = name end
  end
  if count > MOST_BESIDE and not place then beside[oldest] = nil end
  local result = Claim(nil, changed.value, changed)
  result.beside = beside
  return result
end

-- Undo `see_from` after a change.
local function put_back(changed, word)
  local result = stand_beside(changed)
  local begins = word == 'run' and awaits(stored.holder, op.task_id)
  if not begins then result.holder = stored.holder end
  return result
end

-- The run of a task, or what is queued of it.
local function run_of(id)
  local holder = claim.holder
  return claim.beside[id] or (holder and holder.owner == id and holder) or nil
end

-- The start after which this call or message is not to start another run: of
-- `jobtastic_ext.claims.started`.
local function in_force()
  local started = claim.started
  if not started or now >= math.min(started.at + op.unique, FOREVER) or op.refresh then return nil end
  if started.owner == op.task_id or (started.owner == op.gone and not op.well) then return nil end
  local run = run_of(started.owner)
  if run and now >= run['until'] then return nil end
  return started
end

-- Let another run start: that of this task has come to nothing.
local function freed(changed, id)
  if changed.started and changed.started.owner == id then
    changed = Claim(changed.holder, changed.value, changed)
    changed.started = nil
  end
  return changed
end

-- Be about the place of the run that the operation names, if it has one.
local function find_place()
  local run = stored.beside[op.task_id]
  if run and is_run(run, op.task_id, op.run) then see_from(op.task_id) end
end

-- Store `changed`, unless nothing did change, and answer with an `Answer` as JSON; with {it, what was
-- seen of a result, whether what was stored was not a claim} if there is more to say.
local function answer(changed, word, id, gen, ids, waiting, rest, arguments, left)
  if place then changed = put_back(changed, word) end
  if not (same(changed.holder, stored.holder) and same(changed.value, stored.value)
      and same(changed.started, stored.started) and same(changed.beside, stored.beside)
      and same(changed.tombstones, stored.tombstones)
      and same(changed.arrivals, stored.arrivals)) then
    local ends = expiry(changed)
    if ends <= now then
      redis.call('DEL', key)
    elseif ends >= FOREVER then
      redis.call('SET', key, encode(changed))
    else
      redis.call('SET', key, encode(changed), 'PX', string.format('%.0f', ends - now))
    end
  end
  local reply = cjson.encode{
    word = word, id = id, gen = gen, at = now, ids = ids and #ids > 0 and ids or nil,
    waiting = waiting, rest = rest, arguments = arguments, left = left and true or nil,
  }
  if foreign then return { reply, false, 1 } end
  return reply
end

-- Let the reply bring what was seen of a result.
local function with_seen(reply, seen)
  if type(reply) == 'string' then return { reply, seen } end
  reply[2] = seen
  return reply
end

-- A worker has a message in hand: the twin of `jobtastic_ext.claims.beginning.begin`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Begin`: task_id, run, lease, herd, gen, attempt, group, exclusive, starts, unique, gone,
--          refresh, since, after, bare, redelivered, give_up, unclaimed, arrival, unmarked, waited,
--          heed, debounce, debounce_max, arguments, parked.  ARGV[3] and further as in `look.lua`.

-- The start after which nobody is to be run but who is asked to.
local function in_force_for()
  if op.attempt > 0 or awaits(claim.holder, op.task_id) then return nil end
  return in_force()
end

-- See the claim from the place of the run that this message is of, or is served by.
local function find_place_of_message()
  if stored.beside[op.task_id] then return see_from(op.task_id) end
  local serving
  for name, run in pairs(stored.beside) do
    local serves = op.gen ~= '' and run.gen == op.gen
    for _, id in ipairs(run.orphans) do serves = serves or id == op.task_id end
    if serves and (not serving or name < serving) then serving = name end
  end
  local only = not serving and in_force_for()
  if only and stored.beside[only.owner] then serving = only.owner end
  if serving then see_from(serving) end
end

find_place_of_message()
local message = op.gen .. ':' .. op.task_id
if op.give_up ~= 0 then
  local unsent = op.unclaimed or is_unsent(claim.holder)
  if not unsent or claim.arrivals[message] then return answer(claim, 'lost') end
  claim = given_up(claim, message, op.give_up)
elseif claim.tombstones[message] and not op.bare then
  return answer(claim, 'dropped', op.task_id, op.gen)
elseif op.arrival ~= 0 then
  claim = arrived(claim, message, op.arrival)
end
if op.parked == '' and claim.value and claim.value.owner == op.gone then
  claim = Claim(claim.holder, nil, claim)
end
local value, holder = claim.value, claim.holder

local function with_value(fields)
  local copy = {}
  for name, field in pairs(value) do copy[name] = field end
  for name, field in pairs(fields) do copy[name] = field end
  return Claim(holder, Value(copy), claim)
end

-- By the run that ended last, if this message is to have its outcome.
local function settle_by_value()
  if value and not (value.owner == op.task_id and op.attempt > value.attempt) then
    local same = op.gen ~= '' and op.gen == value.gen
    if value.owner == op.task_id and (same or op.redelivered) and not value.failed then
      if value.bare and not op.bare then
        return with_value{ bare = false }, 'reuse'
      end
      local kept = with_value{ kept = math.max(value.kept, later(LINGER)) }
      return kept, 'finished'
    end
    -- Another delivery of what runs now, while others may run and end beside it.
    local runs = op.starts and holder and holder.state == 'running' and holder.owner == op.task_id
      and now < holder['until']
    if not op.exclusive and not runs then
      local later_only = op.refresh or op.starts
      local moment = later_only and value.began or value.ended
      -- It is asked to run, or to run again: others have called since.
      local asked = later_only and holder and holder.owner == op.task_id
      local lately = op.lease ~= 0 and op.since ~= 0 and moment > op.since and not asked
      local meant = same or lately
      if (now < value.fresh and (meant or not op.refresh)) or (meant and now < value.kept) then
        return claim, 'reuse'
      end
    end
  end
end

-- Whether this message waits for the run that holds the claim.
local function must_follow()
  if now >= holder['until'] then return false end
  if holder.state == 'queued' then
    if holder.line then return op.waited == '' end
    if op.heed and now < holder.due then return holder.owner ~= op.task_id end
    if holder.owner == op.task_id then
      -- A copy made for others waits for its retry; the first message is yet to be served.
      return holder.bare and not op.bare and op.attempt < holder.attempt
    end
    -- A retry waits for its countdown: its attempts stay one sequence.  And a message of another
    -- generation, a late copy perhaps, leaves the run to those who are asked to make it.
    local foreign = op.gen ~= '' and op.gen ~= holder.gen and op.gen ~= holder.next_gen
    for _, id in ipairs(holder.orphans) do foreign = foreign or id == op.task_id end
    return holder.attempt > 0 or (foreign and not op.exclusive)
  end
  if holder.owner == op.task_id then
    -- A second delivery, unless it is the run itself, or the retry that this run has sent.
    return holder.run ~= op.run and holder.run ~= op.after
  end
  return op.exclusive or now < holder.herd
end

local settled, word = settle_by_value()
if op.parked ~= '' then
  -- Have a message that is parked woken, if there is still something that it waits for.
  if settled or not holder or not must_follow() then return answer(claim, 'lost') end
  local waiting = both(holder.waiting, op.parked)
  local changed = Claim(with(holder, { followed = true, waiting = waiting }), claim.value, claim)
  return answer(changed, 'follow', holder.owner, holder.gen)
end
if settled then return answer(settled, word, value.owner, value.gen) end
if op.lease == 0 then return answer(claim, 'free', op.task_id, op.gen) end
local only = in_force_for()
if only and not run_of(only.owner) then return answer(claim, 'reuse', only.owner, only.gen) end

local gen = op.gen ~= '' and op.gen or op.run

-- Count a message that is itself a call, and answer one that is not to run yet.
local function wait_until_due()
  if holder and holder.owner ~= op.task_id then
    holder = without_dead(holder, op.lease)
    claim = Claim(holder, value, claim)
  end
  if not holder or now >= holder['until'] then
    if op.debounce == 0 then return nil end
    local due = due_at(0, 0)
    local fresh = Holder{
      state = 'queued', owner = op.task_id, gen = gen, at = now, due = due, looked = due,
      ['until'] = later_than(math.max(now, due), op.lease), group = op.group,
      orphans = displaced(holder, op.task_id),
      waiting = both(holder and holder.waiting or '', op.waited),
      outrun = holder and holder.outrun or 0,
    }
    local changed = Claim(fresh, value, claim)
    return answer(changed, 'wait', op.task_id, gen, NOBODY, '', due - now)
  end
  local foreign = holder.owner ~= op.task_id
  if op.debounce ~= 0 and foreign and not holder.line then
    if has_begun(holder) and holder.next == '' then
      holder = with(holder, next_run(gen))
    else
      holder = put_off(holder)
    end
    claim = Claim(holder, value, claim)
  end
  local followed = with(holder, { followed = true })
  if holder.state == 'queued' and now < holder.due then
    if not foreign then
      local expected = Claim(with(holder, { looked = holder.due }), value, claim)
      return answer(expected, 'wait', holder.owner, holder.gen, NOBODY, '', holder.due - now)
    end
    local rest = holder['until'] - now
    local changed = Claim(followed, value, claim)
    return answer(changed, 'joined', holder.owner, holder.gen, NOBODY, '', rest)
  end
  if op.debounce ~= 0 and foreign and has_begun(holder) and holder.next ~= op.task_id then
    local rest = holder['until'] - now
    local changed = Claim(followed, value, claim)
    return answer(changed, 'joined', holder.next, holder.next_gen, NOBODY, '', rest)
  end
end

local not_yet = op.heed and wait_until_due()
if not_yet then return not_yet end
local following = { next = '', next_gen = '', next_at = 0, next_due = 0, next_arguments = '' }
local followed, orphans, waiting, arguments = false, NOBODY, op.waited, ''
if holder then
  if must_follow() then
    local changed = Claim(with(holder, { followed = true }), claim.value, claim)
    local ends = holder['until']
    if not op.exclusive and holder.herd > now then ends = math.min(ends, holder.herd) end
    return answer(changed, 'follow', holder.owner, holder.gen, NOBODY, '', ends - now)
  end
  if holder.owner == op.task_id and op.attempt < holder.attempt and now < holder['until'] then
    return answer(claim, 'dropped', op.task_id, op.gen)
  end
  waiting = both(holder.waiting, op.waited)
  if not op.exclusive then
    followed = holder.followed
    local retries = holder.owner == op.task_id -- what waits, waits for its retries
    if (retries or not op.refresh) and (op.gen == '' or op.gen ~= holder.next_gen) then
      gen = holder.gen
      for name in pairs(following) do following[name] = holder[name] end
    end
    orphans = displaced(holder, op.task_id, following.next)
    if retries or holder.state == 'queued' then
      arguments = holder.arguments
    elseif following.next == '' then -- this is what waited for its end, or is served with it
      arguments = holder.next_arguments
    end
  end
end
-- Those whose run has died beside the claim are served by this one.
local alive, dead = {}, {}
for name, run in pairs(claim.beside) do
  if now >= run['until'] then dead[#dead + 1] = name else alive[name] = run end
end
if #dead > 0 then
  table.sort(dead)
  local seen, ids = { [op.task_id] = true }, {}
  local function add(found)
    for _, id in ipairs(found) do
      if not seen[id] then ids[#ids + 1] = id end
      seen[id] = true
    end
  end
  add(orphans)
  for _, name in ipairs(dead) do add(displaced(claim.beside[name], '')) end
  orphans = { unpack(ids, math.max(1, #ids - MOST_ORPHANS + 1)) }
  if #orphans == 0 then orphans = NOBODY end
  claim = Claim(holder, value, claim)
  claim.beside = alive
end
local started, unique = claim.started, 0
if op.unique > 0 then
  if op.attempt == 0 then
    started = { owner = op.task_id, gen = gen, at = now, ['until'] = later(op.unique) }
  end
  unique = started and math.min(started.at + op.unique, FOREVER) or 0
end
local left, unmarked = has_left(holder), false
-- A run that has lost its lease, or was taken over, may store its result yet.
local another = left or (holder and holder.taker ~= '')
if not (op.exclusive or op.bare or op.redelivered or another) then
  unmarked = op.unmarked or (ARGV[3] ~= nil and stored_result(op.task_id) == '')
end
local running = Holder{
  state = 'running', owner = op.task_id, gen = gen, run = op.run, at = now,
  ['until'] = later(op.lease), herd = math.max(later(op.herd), unique), attempt = op.attempt,
  outrun = holder and holder.outrun or 0, followed = followed, group = op.group,
  arguments = arguments,
  bare = op.bare, unmarked = unmarked, orphans = orphans, waiting = waiting,
}
local changed = Claim(with(running, following), claim.value, claim)
changed.started = started
if op.starts and not place then changed = stand_beside(changed) end
local reply = answer(changed, 'run', '', gen, orphans, '', 0, arguments, left)
if unmarked then reply = with_seen(reply, '') end
return reply

-- A caller asks for the right to publish: the twin of `jobtastic_ext.claims.calling.claim_call`.
-- KEYS[1]  the call key.
-- ARGV[1]  `ClaimCall`: task_id, gen, hold, pinned, refresh, buffer, unique, debounce, debounce_max,
--          countdown, arguments, expires, group, gone, readable, well.

local value, holder = claim.value, claim.holder
local waiting, outrun_until = holder and holder.waiting or '', holder and holder.outrun or 0
if holder and holder.line then holder = nil end -- of a task that took turns before
if value and op.refresh then
  -- For those who wait for it, not for this call.
  local kept = {}
  for name, field in pairs(value) do kept[name] = field end
  kept.fresh, kept.stale = 0, 0
  value = Value(kept)
end
if value and (value.owner == op.gone and not op.readable or value.owner == op.task_id) then
  value = nil -- unreadable, or sent anew under the same id
end
if op.gone ~= '' and not op.well then claim = freed(claim, op.gone) end
local orphans = displaced(holder, op.task_id)
-- Whoever ends it is to wake what waits for its end, as long as it is alive.
local wakes = holder and holder.next ~= '' and now < holder['until']
if holder and holder.owner == op.gone and not wakes
    and (holder.ending or is_unmarked(holder) or holder.state == 'queued'
      or now >= holder['until']) then
  if holder.followed then
    -- It ended some time ago, so only its own generation may have it.
    value = Value{
      owner = holder.owner, gen = holder.gen, bare = holder.bare,
      kept = remembered(holder, value, LINGER),
    }
  end
  orphans = holder.orphans
  holder = after(holder, op.hold, orphans)
end
claim = Claim(holder, value, claim)

-- Whether its task may have ended without the claim knowing, although nobody has begun it.
local function is_overdue(holder)
  local taken = holder.taker ~= '' and now >= holder.due
  local past = now - math.max(holder.at, holder.looked) >= MOMENT
  return holder.state == 'queued' and (taken or past)
end

-- Share the one start in a time; who looks may find that it has failed, or its result gone.
local started = in_force()
-- After one that was granted since, the message of which may be lost, it does not count.
if holder and holder.state == 'queued' and holder.at > 0 then started = nil end
local function join_start()
  local run, word = run_of(started.owner), 'joined'
  if op.pinned or op.gone == started.owner then
    word = 'joined' -- it is settled at the worker, or the caller has seen the result
  elseif not run then
    word = started.silent and 'started' or 'ended'
  elseif run.ending or is_overdue(run) then
    word = 'started'
  end
  return answer(claim, word, started.owner, started.gen)
end

local refreshes = false
if value then
  if now < value.fresh then return answer(claim, 'cached', value.owner, value.gen) end
  if now < value.stale and not op.pinned then
    if is_held(holder) or started then return answer(claim, 'stale', value.owner, value.gen) end
    refreshes = true
  elseif op.group ~= '' and op.group == value.group and not op.refresh and not value.failed
      and now < value.kept then
    return answer(claim, 'joined', value.owner, value.gen)
  end
end
if op.hold == 0 then
  if refreshes then return answer(claim, 'refresh', value.owner, value.gen) end
  return answer(claim, 'free', value and value.owner or op.task_id, op.gen)
end

-- Whether the message that is queued lives for about as long as that of this call would.
local function outlasts()
  if holder.state ~= 'queued' or holder.expires == 0 then return true end
  return op.expires > 0 and later(math.floor(op.expires / 2)) < holder.expires
end

local function may_join()
  if is_held(holder) then
    return holder.owner == op.task_id or outlasts()
  end
  -- Others wait no longer for this run, but a refresh waits for its end, and others for that.
  return now < holder['until'] and (op.refresh or op.buffer or holder.next ~= '')
end

local function join()
  local foreign = holder.owner ~= op.task_id
  local later_run = op.refresh or op.buffer
  if later_run and foreign and has_begun(holder) and holder.next == '' then
    if not op.pinned and is_overdue(holder) then -- a retry that may never come
      local looks = Claim(with(holder, { looked = now }), value, claim)
      return answer(looks, 'overdue', holder.owner, holder.gen)
    end
    local waiting = with(holder, next_run(op.gen))
    local rest = math.max(waiting.next_due - now, 0)
    return answer(
      Claim(waiting, value, claim), 'buffered', op.task_id, op.gen, NOBODY, '', rest
    )
  end
  local hastened = foreign and op.refresh and is_waiting(holder)
  if hastened then holder = outrun(holder) end
  if foreign then holder = put_off(holder) end
  if hastened and not op.pinned then
    if holder.next ~= '' then
      return answer(Claim(holder, value, claim), 'hastened', holder.next, holder.next_gen)
    end
    local sent = with(holder, { taker = op.gen })
    return answer(Claim(sent, value, claim), 'hastened', holder.owner, holder.gen)
  end
  local counts = started and started.owner == holder.owner
  local word, id, gen = 'joined', holder.owner, holder.gen
  if holder.next ~= '' and foreign then
    id, gen = holder.next, holder.next_gen
  elseif foreign and not op.pinned and holder.ending then
    word = counts and 'started' or 'ending'
  elseif foreign and not op.pinned and is_unmarked(holder) and not counts then
    word = 'unmarked'
  elseif foreign and not op.pinned and is_overdue(holder) then
    return answer(Claim(with(holder, { looked = now }), value, claim), 'overdue', id, gen)
  end
  local joined = holder
  if op.pinned and not holder.followed then joined = with(holder, { followed = true }) end
  return answer(Claim(joined, value, claim), word, id, gen)
end

local part -- that runs, of the same group
for name, run in pairs(claim.beside) do
  local shares = op.group ~= '' and run.group == op.group and now < run['until'] and not op.refresh
  if shares and (not part or name < part) then part = name end
end
if part then return answer(claim, 'joined', part, claim.beside[part].gen) end
if started and not is_held(holder) then return join_start() end
if holder and not refreshes then
  if op.refresh or op.buffer then holder = without_dead(holder, op.hold) end
  if may_join() then return join() end
  local over = now >= holder['until'] and (holder.state == 'queued' or not (op.refresh or op.buffer))
  local followed = holder.followed and holder or with(holder, { followed = true })
  if over and op.pinned then
    -- Published under its own id all the same; the worker takes over.
    local newest = with(put_off(holder), { followed = true })
    return answer(Claim(newest, value, claim), 'joined', holder.owner, holder.gen)
  end
  if over and outlasts() then
    -- Published under the dead run's id, or a lost message's: all who joined it are served.
    local again = holder.state == 'queued' and holder.taker ~= ''
    local since = math.max(holder.at, holder.due)
    local length = again and math.min(2 * (holder['until'] - since), LINGER) or 0
    local taken = with(holder, {
      state = 'queued', run = '', at = now, due = 0, ['until'] = later(math.max(op.hold, length)),
      herd = 0, attempt = 0, arguments = op.arguments,
      ending = false, taker = op.gen, followed = true,
      next = '', next_gen = '', next_at = 0, next_due = 0, next_arguments = '',
      orphans = displaced(holder, holder.owner),
    })
    return answer(
      Claim(taken, value, claim), 'takeover', holder.owner, holder.gen, NOBODY, '', 0, '',
      has_left(holder)
    )
  end
  if op.expires > 0 and now < holder.expires then
    -- The first of the two messages runs.  Were the claim to go to the later one again and again,
    -- none would in a long queue.
    return answer(Claim(followed, value, claim), 'free', op.task_id, holder.gen)
  end
end

local due = due_at(0, 0)
local fresh = Holder{
  state = 'queued', owner = op.task_id, gen = op.gen,
  ['until'] = later_than(math.max(now, due), op.hold), due = due,
  looked = due, at = now, expires = op.expires > 0 and later(op.expires) or 0, group = op.group,
  orphans = orphans, waiting = waiting, outrun = outrun_until,
}
local changed = Claim(fresh, value, claim)
if refreshes then return answer(changed, 'refresh', value.owner, value.gen) end
return answer(changed, 'claimed', op.task_id, op.gen, NOBODY, '', math.max(due - now, 0))

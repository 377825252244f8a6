-- When a call is due: the twin of `jobtastic_ext.claims.debounce`.

-- When the run is due after this call; the `first` of its burst came then, or is this one.
local function due_at(first, due)
  if op.hold and op.refresh then -- of a caller, who wants it now
    return due ~= 0 and now or 0
  end
  local quiet = 0
  if op.debounce ~= 0 then
    quiet = math.min(now + op.debounce, (first ~= 0 and first or now) + op.debounce_max)
  end
  local asked = op.countdown ~= 0 and now + op.countdown or 0
  return math.min(math.max(due, quiet, asked), FOREVER)
end

-- Whether what would serve a call, the queued message or the next run, is not due yet.
local function is_waiting(holder)
  if holder.next ~= '' then return now < holder.next_due end
  return holder.state == 'queued' and now < holder.due
end

-- What waits is not put off any more; its message comes later, and finds how it has ended.
local function outrun(holder)
  local ends = holder.next ~= '' and holder.next_due or holder.due
  return with(holder, { followed = true, outrun = math.max(holder.outrun, ends) })
end

-- One more call has come, before the run that will serve it has begun.
local function put_off(holder)
  local fields = {}
  if holder.next ~= '' then
    if now < holder.next_due then fields.next_due = due_at(holder.next_at, holder.next_due) end
    if op.arguments ~= '' then fields.next_arguments = op.arguments end
    return with(holder, fields)
  end
  if has_begun(holder) then return holder end
  if now < holder.due then
    fields.due = due_at(holder.at, holder.due)
    fields['until'] = later_than(fields.due, holder['until'] - holder.due)
    fields.looked = math.min(holder.looked, fields.due)
  end
  if op.arguments ~= '' then fields.arguments = op.arguments end
  return with(holder, fields)
end

-- What a run keeps of the call that waits for its end.
local function next_run(gen)
  local due = due_at(0, 0)
  return { next = op.task_id, next_gen = gen, next_at = due ~= 0 and now or 0, next_due = due }
end

-- Who holds the claim now: what waited for the end of a run, once that has died.
local function without_dead(holder, hold)
  if holder.next == '' or not has_left(holder) then return holder end
  local waits = after(holder, hold, displaced(holder, holder.next))
  return with(waits, { waiting = holder.waiting })
end

-- The owner lets go: the twin of `jobtastic_ext.claims.rules.release`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Release`: task_id, hold, run, after, gen, bare, unserved, silent, give_up, unclaimed, line.

local token = op.run ~= '' and op.run or op.after
local retry = stored.beside[op.task_id]
if retry and is_run(retry, op.task_id, token) then
  see_from(op.task_id)
elseif retry and op.run == '' and (op.unclaimed or (retry.state == 'queued' and not awaits(claim.holder, op.task_id))) then
  see_from(op.task_id)
end
local holder, value = claim.holder, claim.value
if op.unclaimed then
  -- It runs, or another caller has sent it again, by which the mark would be meant as well.
  local runs = holder and holder.owner == op.task_id and (holder.state == 'running' or holder.taker ~= '')
  local has_run = value and value.owner == op.task_id and value.gen == op.gen
  local message = op.gen .. ':' .. op.task_id
  if runs or has_run or claim.arrivals[message] then return answer(claim, 'lost') end
  return answer(given_up(claim, message, op.give_up), 'ok')
end
if not holder or (op.give_up ~= 0 and not is_unsent(holder)) then return answer(claim, 'lost') end
local rest, gen
local waiting = holder.waiting
if op.task_id ~= '' and holder.next == op.task_id and op.run == '' then
  waiting = ''
  rest = with(holder, { next = '', next_gen = '', next_at = 0, next_due = 0, next_arguments = '' })
  gen = holder.next_gen
elseif holder.owner == op.task_id and holder.state == 'queued' and op.run == '' then
  if holder.taker ~= '' and not op.bare then return answer(claim, 'lost') end
  rest, gen = after(holder, op.hold, holder.orphans), holder.gen
elseif is_run(holder, op.task_id, token) then
  local orphans = op.unserved and displaced(holder, holder.next) or holder.orphans
  rest, gen = after(holder, op.hold, orphans), holder.gen
  if not rest and op.line and waiting ~= '' then rest = kept_for_line(op.hold) end
else
  return answer(claim, 'lost')
end
-- Let the start of this task count, whose run has ended without a result.
local function silenced(changed, id)
  local kept = changed.started
  if kept and kept.owner == id then
    changed = Claim(changed.holder, changed.value, changed)
    changed.started = {
      owner = kept.owner, gen = kept.gen, at = kept.at, ['until'] = kept['until'], silent = true,
    }
  end
  return changed
end

local settle = op.silent and silenced or freed
local released = settle(Claim(rest, value, claim), op.task_id)
if op.give_up ~= 0 then
  released = given_up(released, gen .. ':' .. op.task_id, op.give_up)
end
return answer(released, 'ok', '', '', NOBODY, waiting)

-- The owner lets go: the twin of `jobtastic_ext.claims.release`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Release`: task_id, hold, run, gen, bare, unserved, give_up, unclaimed.

local holder, value = claim.holder, claim.value
if op.unclaimed then
  local runs = holder and holder.state == 'running' and holder.owner == op.task_id
  local has_run = value and value.owner == op.task_id and value.gen == op.gen
  local message = op.gen .. ':' .. op.task_id
  if runs or has_run or claim.given_up['+' .. message] then return answer(claim, 'lost') end
  return answer(Claim(holder, value, marked(claim, message, op.give_up)), 'ok')
end
if not holder or (op.give_up ~= 0 and not is_unsent(holder)) then return answer(claim, 'lost') end
local rest, gen
if holder.next == op.task_id and op.run == '' then
  rest, gen = with(holder, { next = '', next_gen = '' }), holder.next_gen
elseif holder.owner == op.task_id and holder.state == 'queued' and op.run == '' then
  if holder.taken and not op.bare then return answer(claim, 'lost') end
  rest, gen = after(holder, op.hold, holder.orphans), holder.gen
elseif is_run(holder, op.task_id, op.run) then
  local orphans = op.unserved and displaced(holder, holder.next) or holder.orphans
  rest, gen = after(holder, op.hold, orphans), holder.gen
else
  return answer(claim, 'lost')
end
local given_up = claim.given_up
if op.give_up ~= 0 then given_up = marked(claim, gen .. ':' .. op.task_id, op.give_up) end
return answer(Claim(rest, value, given_up), 'ok')

-- The owner lets go: the twin of `jobtastic_ext.claims.release`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Release`: task_id, hold, run, gen, bare, unserved, give_up, unclaimed.

local holder, value = claim.holder, claim.value
if op.unclaimed then
  local runs = holder and holder.state == 'running' and holder.owner == op.task_id
  if runs or (value and value.owner == op.task_id and value.gen == op.gen) then
    return answer(claim, 'lost')
  end
  return answer(Claim(holder, value, give_up(claim, op.gen)), 'ok')
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
local given_up = op.give_up ~= 0 and give_up(claim, gen) or claim.given_up
return answer(Claim(rest, value, given_up), 'ok')

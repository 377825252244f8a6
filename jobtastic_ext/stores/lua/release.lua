-- The owner lets go: the twin of `jobtastic_ext.claims.release`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Release`: task_id, hold, run, gen, bare, unserved, give_up.

local holder = claim.holder
if not holder then return answer(claim, 'lost') end
local rest, gen
if holder.next == op.task_id and op.run == '' then
  rest, gen = with(holder, { next = '', next_gen = '' }), holder.next_gen
elseif holder.owner == op.task_id and holder.state == 'queued' and op.run == '' then
  if holder.taken and not op.bare then return answer(claim, 'lost') end
  if op.give_up ~= 0 and (holder.attempt ~= 0 or holder.gen ~= op.gen) then
    return answer(claim, 'lost')
  end
  rest, gen = after(holder, op.hold, holder.orphans), holder.gen
elseif is_run(holder, op.task_id, op.run) then
  local orphans = op.unserved and displaced(holder, holder.next) or holder.orphans
  rest, gen = after(holder, op.hold, orphans), holder.gen
else
  return answer(claim, 'lost')
end
local given_up = claim.given_up
if op.give_up ~= 0 then
  given_up = {}
  for name, ends in pairs(claim.given_up) do given_up[name] = ends end
  given_up[gen .. ':' .. op.task_id] = later(op.give_up)
end
return answer(Claim(rest, claim.value, given_up), 'ok')

-- The body is over: the twin of `jobtastic_ext.claims.rules.ending`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Ending`: task_id, run.

find_place()
local holder = claim.holder
if not is_run(holder, op.task_id, op.run) then return answer(claim, 'lost') end
local changed = Claim(with(holder, { ending = true }), claim.value, claim)
return answer(changed, 'ok', '', '', holder.orphans)

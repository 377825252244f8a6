-- The run is alive: the twin of `jobtastic_ext.claims.rules.renew`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Renew`: task_id, run, lease.

find_place()
local holder = claim.holder
if not is_run(holder, op.task_id, op.run) then return answer(claim, 'lost') end
local renewed = with(holder, { ['until'] = later(op.lease) })
return answer(Claim(renewed, claim.value, claim), 'ok', holder.run)

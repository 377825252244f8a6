-- A run will be retried: the twin of `jobtastic_ext.claims.rules.requeue`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Requeue`: task_id, run, hold, attempt.

find_place()
local holder = claim.holder
if not is_run(holder, op.task_id, op.run) then return answer(claim, 'lost') end
local waiting = with(holder, {
  state = 'queued', run = '', ['until'] = later(op.hold), at = now, herd = 0, attempt = op.attempt,
  ending = false, due = 0,
})
return answer(Claim(waiting, claim.value, claim), 'ok')

-- Drop the claim and the result, whoever holds them: the twin of `jobtastic_ext.claims.rules.forget`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Forget`.

local known = claim.holder or claim.value or claim.started
local rest
-- Should it be dead, those who wait for it are served by the next run.
local waiting = claim.holder and claim.holder.waiting or ''
if claim.holder then rest = unserved(displaced(claim.holder, ''), claim.holder.gen) end
local forgotten = Claim(rest, nil, claim)
forgotten.started = nil
return answer(forgotten, known and 'ok' or 'lost', '', '', NOBODY, waiting)

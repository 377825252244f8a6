-- Drop the claim and the result, whoever holds them: the twin of `jobtastic_ext.claims.forget`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Forget`.

local known = claim.holder or claim.value
return answer(Claim(nil, nil, claim.given_up), known and 'ok' or 'lost')

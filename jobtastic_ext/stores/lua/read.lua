-- Read a claim as it is now.
-- KEYS[1]  the call key.
-- ARGV[1]  {}.
-- Answers {claim as JSON, or '' if there is none; time}, and 1 if what was stored was not a claim.

local found = claim.holder or claim.value or claim.started or next(claim.beside) or next(claim.tombstones) or next(claim.arrivals)
return { found and encode(claim) or '', now, foreign }

-- A takeover could not be published: the twin of `jobtastic_ext.claims.rules.lapse`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Lapse`: task_id, at.

local holder = claim.holder
if not holder or holder.owner ~= op.task_id or not holder.taken then
  return answer(claim, 'lost')
end
-- Another caller may have taken it over since.
if holder.at ~= op.at then return answer(claim, 'lost') end
return answer(Claim(with(holder, { ['until'] = now }), claim.value, claim), 'ok')

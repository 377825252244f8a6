-- A takeover could not be published: the twin of `jobtastic_ext.claims.rules.lapse`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Lapse`: task_id, gen.

local holder = claim.holder
-- Perhaps another caller has taken it over since.
if not holder or holder.owner ~= op.task_id or holder.taker ~= op.gen then
  return answer(claim, 'lost')
end
return answer(Claim(with(holder, { ['until'] = now }), claim.value, claim), 'ok')

-- A run ended and its outcome is in the result backend: the twin of `jobtastic_ext.claims.rules.finish`.
-- KEYS[1]  the call key.
-- ARGV[1]  `Finish`: task_id, run, gen, fresh, stale, keep, hold, failed, attempt, group, unclaimed,
--          line.

find_place()
local holder, value = claim.holder, claim.value
local held = is_run(holder, op.task_id, op.run) and holder or nil
if not held and not op.unclaimed then return answer(claim, 'lost') end
local fresh, stale = op.fresh, op.stale
if held and held.next ~= '' then fresh, stale = 0, 0 end -- a refresh was asked for meanwhile
local followed = held and held.followed
local old_serves = value and now < value.stale
if not op.failed or fresh ~= 0 or (followed and not old_serves) then
  value = Value{
    owner = op.task_id,
    gen = held and held.gen or op.gen,
    group = held and held.group or (not held and op.group or ''),
    failed = op.failed,
    bare = held and held.bare or false,
    attempt = op.attempt,
    began = held and held.at or 0,
    ended = now,
    fresh = fresh ~= 0 and later(fresh) or 0,
    stale = fresh ~= 0 and stale ~= 0 and later(fresh + stale) or 0,
    kept = remembered(held, value, op.keep),
  }
end
if op.failed then claim = freed(claim, op.task_id) end
if not held then return answer(Claim(holder, value, claim), 'ok') end
local rest = after(held, op.hold, NOBODY)
if not rest and op.line and held.waiting ~= '' then rest = kept_for_line(op.hold) end
return answer(Claim(rest, value, claim), 'ok', '', '', held.orphans, held.waiting)

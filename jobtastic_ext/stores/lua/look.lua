-- Read what is stored for a task, where the result backend is a database of this very server.
-- ARGV[3]  that database.  ARGV[4]  what its keys begin with.  ARGV[5]  the database of the claims.

local READY = { SUCCESS = true, FAILURE = true, REVOKED = true }
local MOST = 65536

-- The bytes as Celery wrote them; '' if no final result is there; false if it cannot be told:
-- it is large, or the user of the claims may not read it.
local function stored_result(id)
  local function ask(...)
    local reply = redis.pcall(...)
    if type(reply) == 'table' and reply.err then return nil end
    return reply
  end
  if not ask('SELECT', ARGV[3]) then return false end
  local size, raw = ask('STRLEN', ARGV[4] .. id), false
  if size == 0 then
    raw = ''
  elseif size and size <= MOST then
    raw = ask('GET', ARGV[4] .. id) or false
    -- In JSON the state comes first.
    local state = raw and string.match(raw, '^{"status": "(%u+)"')
    if state and not READY[state] then raw = '' end
  end
  redis.call('SELECT', ARGV[5])
  return raw
end

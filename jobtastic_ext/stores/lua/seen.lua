-- Let a caller see at once the result that its answer is about.

local LOOK = {
  cached = true, stale = true, refresh = true, takeover = true, ending = true, overdue = true,
  unmarked = true, started = true, ended = true,
}

if ARGV[3] and not op.pinned then
  local settled = answer
  answer = function(changed, word, id, ...)
    local reply = settled(changed, word, id, ...)
    return LOOK[word] and with_seen(reply, stored_result(id)) or reply
  end
end

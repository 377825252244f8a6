-- Let a caller see at once the result that its answer is about.

local LOOK = {
  cached = true, stale = true, refresh = true, takeover = true, ending = true, overdue = true,
  unmarked = true, started = true,
}

if ARGV[3] and not op.pinned then
  local settled = answer
  answer = function(changed, word, id, gen, ids, waiting, rest)
    local reply = settled(changed, word, id, gen, ids, waiting, rest)
    if LOOK[word] then
      reply[8] = reply[8] or false
      reply[9] = stored_result(id)
    end
    return reply
  end
end

"""Who may see a shared task: whoever has asked for it in this session."""

MOST = 50


def remember(request, result):
    """Note that this session has asked for the task, whoever else has asked for it before."""
    ids = [each for each in request.session.get("tasks", []) if each != result.id]
    request.session["tasks"] = [*ids, result.id][-MOST:]


def may_see(request, task_id):
    return task_id in request.session.get("tasks", [])

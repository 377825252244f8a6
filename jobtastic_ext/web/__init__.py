"""The state of a task, for the page that waits for it: `docs/web.md`."""

from .status import task_status
from .tokens import status_token

__all__ = ("status_token", "task_status")

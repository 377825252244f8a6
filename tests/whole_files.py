"""kombu's broker of files with each message written whole.

Its own `Channel._put` makes the file and fills it afterwards: a worker that looks in between takes
an empty message, and ends with a JSONDecodeError, whatever the task.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport.filesystem import Channel
from kombu.utils.json import dumps


def put(self: Channel, queue: str, payload: dict[str, Any], **_: Any) -> None:
    name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
    new = Path(self.data_folder_out, f"{name}.new")  # which is no message of that queue
    new.write_text(dumps(payload))
    os.rename(new, new.with_suffix(""))

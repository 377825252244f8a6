"""The app of `tests.reports` behind a web server of several processes, which serves its metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from jobtastic_ext.contrib import saved
from jobtastic_ext.contrib.prometheus import install
from tests import reports

app = getattr(reports, "app", None)
if app is not None:
    saved.PAUSE = 0.1
    install(app)


def site(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [generate_latest(registry)]
    result = app.tasks["reports.cached"].delay(path, delay=0.5)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), result.decision]).encode()]

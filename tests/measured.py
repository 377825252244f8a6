"""The app of `tests.reports`, whose worker serves metrics."""

from __future__ import annotations

import os

from jobtastic_ext.contrib.prometheus import install
from tests import reports

app = getattr(reports, "app", None)
if app is not None:
    install(app, port=int(os.environ["METRICS_PORT"]))

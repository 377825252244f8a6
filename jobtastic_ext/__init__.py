"""Ordinary Celery tasks, deduplicated, cached and followed, from one line and one YAML file.

app.steps["worker"].add(JobtasticStep)
"""

from .errors import (
    ArgumentNotEncodable,
    ConfigurationError,
    DuplicateCall,
    JobtasticError,
    PolicyError,
    ResultsUnavailable,
    StoreError,
    StoreUnavailable,
)
from .plugin.bootstep import JobtasticStep
from .plugin.methods import progress_of, queue_of
from .plugin.methods import track_here as track
from .plugin.methods import update_progress_here as update_progress
from .plugin.patch import install, uninstall
from .plugin.typed import JobtasticTask, delay_or_eager, delay_or_fail
from .progress.workflow import Overview

__all__ = (
    "ArgumentNotEncodable",
    "ConfigurationError",
    "DuplicateCall",
    "JobtasticError",
    "JobtasticStep",
    "JobtasticTask",
    "Overview",
    "PolicyError",
    "ResultsUnavailable",
    "StoreError",
    "StoreUnavailable",
    "delay_or_eager",
    "delay_or_fail",
    "install",
    "progress_of",
    "queue_of",
    "signals",
    "track",
    "uninstall",
    "update_progress",
)

install()

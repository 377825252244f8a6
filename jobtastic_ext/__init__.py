"""Ordinary Celery tasks, deduplicated, cached and followed, from one line and one YAML file.

app.steps["worker"].add(JobtasticStep)
"""

from . import signals
from .bootstep import JobtasticStep
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
from .overview import Overview, progress_of
from .patch import install, uninstall
from .reporting import track_here as track
from .reporting import update_progress_here as update_progress

__all__ = (
    "ArgumentNotEncodable",
    "ConfigurationError",
    "DuplicateCall",
    "JobtasticError",
    "JobtasticStep",
    "Overview",
    "PolicyError",
    "ResultsUnavailable",
    "StoreError",
    "StoreUnavailable",
    "install",
    "progress_of",
    "signals",
    "track",
    "uninstall",
    "update_progress",
)

install()

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
    StoreError,
    StoreUnavailable,
)
from .patch import install, uninstall

__all__ = (
    "ArgumentNotEncodable",
    "ConfigurationError",
    "DuplicateCall",
    "JobtasticError",
    "JobtasticStep",
    "PolicyError",
    "StoreError",
    "StoreUnavailable",
    "install",
    "signals",
    "uninstall",
)

install()

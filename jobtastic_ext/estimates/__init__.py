"""How long a task will take, learned from past runs: pure arithmetic."""

from .estimator import Estimate, History, estimate

__all__ = ("Estimate", "History", "estimate")

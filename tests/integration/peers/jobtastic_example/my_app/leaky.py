"""Tasks that say more than the README's does, one by inheritance."""

import jobtastic
from django.conf import settings

from .keys import rounded


class BaseTask(jobtastic.JobtasticTask):
    abstract = True
    significant_kwargs = [
        ("bloat_factor", rounded),
        ("mood", lambda mood: mood.lower()),
    ]
    herd_avoidance_timeout = 60 * 5
    cache_duration = settings.HOUR

    def warn_of_memory_leak(self, growth, begining_usage, ending_usage, task_kwargs):
        self.logger.warning("%d bytes", growth)


class LeakyTask(BaseTask):
    memleak_threshold = 10

    def calculate_result(self, bloat_factor, mood, **kwargs):
        return [bloat_factor]

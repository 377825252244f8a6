"""What people write, without a mistake."""

from __future__ import annotations

from celery import Celery, shared_task

import jobtastic_ext
from jobtastic_ext import JobtasticStep, JobtasticTask, delay_or_eager, delay_or_fail, progress_of

app = Celery("reports", task_cls=JobtasticTask)
app.steps["worker"].add(JobtasticStep)


@app.task(bind=True, name="reports.divide")
def divide(self: JobtasticTask, numerators: list[float], by: float = 2) -> list[float]:
    results = []
    for i, n in enumerate(numerators):
        results.append(n / by)
        self.update_progress(i + 1, len(numerators), update_frequency=10, message="dividing")
    return [result * 2 for result in self.track(results, total=7)]


@app.task(bind=True, base=JobtasticTask)
def based(self: JobtasticTask) -> int:
    self.update_progress(1, None)
    return self.request.retries


@shared_task
def add(x: int, y: int = 0) -> int:
    jobtastic_ext.update_progress(1, 2)
    return sum(jobtastic_ext.track([x, y]))


def view() -> str:
    divide.delay([1.0])
    divide.apply_async(([1.0],), {"by": 3}, refresh=True, countdown=3)
    divide.delay_or_eager([1.0], by=3)
    based.async_or_fail(kwargs={}, queue="slow")
    forgotten: bool = divide.forget([1.0])
    one = delay_or_eager(add, 1, y=2)
    two = delay_or_fail(add, 1)
    total: int = one.get() + two.get()
    percent: float | None = progress_of(one).progress_percent
    return f"{forgotten} {total} {percent}"

"""Five mistakes, each marked."""

from __future__ import annotations

from celery import Celery, shared_task

from jobtastic_ext import JobtasticTask, delay_or_fail

app = Celery("reports", task_cls=JobtasticTask)


@app.task(bind=True, name="reports.divide")
def divide(self: JobtasticTask, numerators: list[float]) -> float:
    self.update_progress("half", len(numerators))  # mistake: a text
    self.update_progres(1, 2)  # mistake: misspelt
    return sum(self.track(len(numerators)))  # mistake: not iterable


@shared_task
def add(x: int, y: int) -> int:
    return x + y


def view() -> None:
    divide.apply_async(([1.0],), refresh="yes")  # mistake: a text
    delay_or_fail(add, 1, "2")  # mistake: not what the task takes

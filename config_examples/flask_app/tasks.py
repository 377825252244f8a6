"""The Celery side: an ordinary app with the one line, and an ordinary task."""

import os
import time

from celery import Celery

from jobtastic_ext import JobtasticStep

app = Celery(
    "division",
    broker=os.environ.get("BROKER_URL", "redis://localhost:6379/0"),
    backend=os.environ.get("RESULT_BACKEND", "redis://localhost:6379/0"),
)
app.steps["worker"].add(JobtasticStep)


@app.task(bind=True, name="division.lots_of_division")
def lots_of_division(self, numerators, denominators):
    """Divide each numerator by its denominator, slowly, so that there is something to see."""
    rows = []
    for i, (numerator, denominator) in enumerate(zip(numerators, denominators, strict=True)):
        time.sleep(0.1)
        rows.append([numerator, denominator, round(numerator / denominator, 3)])
        self.update_progress(i + 1, len(numerators))
    return {"columns": ["Numerator", "Denominator", "Quotient"], "rows": rows}

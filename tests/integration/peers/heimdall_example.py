"""The tasks of celery-heimdall's README."""

from celery_heimdall import HeimdallTask, RateLimit
from project import app


@app.task(base=HeimdallTask, heimdall={"unique": True})
def generate_report(customer_id):
    return f"report of {customer_id}"


@app.task(base=HeimdallTask, heimdall={"unique": True, "unique_raises": True, "unique_timeout": 90})
def raising_report(customer_id):
    return f"report of {customer_id}"


@app.task(base=HeimdallTask, heimdall={"unique": True, "key": "one report"})
def any_report(customer_id):
    return f"report of {customer_id}"


@app.task(base=HeimdallTask, heimdall={"unique": True, "unique_wait_for_expiry": True})
def hourly_report(customer_id):
    return f"report of {customer_id}"


@app.task(base=HeimdallTask, heimdall={"rate_limit": RateLimit((2, 60))})
def limited(customer_id):
    return f"report of {customer_id}"

"""The tasks of celery-once's README."""

from time import sleep

from celery_once import QueueOnce
from project import app

app.conf.ONCE = {
    "backend": "celery_once.backends.Redis",
    "settings": {"url": "redis://localhost:6379/0", "default_timeout": 60 * 30},
}


@app.task(base=QueueOnce)
def slow_task():
    sleep(0.1)
    return "Done!"


@app.task(base=QueueOnce, once={"keys": ["a"], "graceful": True})
def slow_add(a, b):
    sleep(0.1)
    return a + b


@app.task(base=QueueOnce, once={"keys": [], "timeout": 60 * 60 * 10})
def one_at_all(a, b):
    return a + b


@app.task(base=QueueOnce, once={"graceful": True, "unlock_before_run": True})
def rerunnable(a):
    sleep(0.1)
    return a

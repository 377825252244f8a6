"""The tasks of celery-singleton's README."""

from time import sleep

from celery_singleton import Singleton
from project import app


@app.task(base=Singleton)
def do_stuff(*args, **kwargs):
    sleep(0.1)
    return len(args) + len(kwargs)


@app.task(base=Singleton, unique_on="username", lock_expiry=10, raise_on_duplicate=True)
def do_something(username, otherarg=None):
    return f"{username} with {otherarg}"

"""The page: a form, a bar that is told by server-sent events, and the result as a table."""

import logging
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from tasks import app as celery_app
from tasks import lots_of_division

from jobtastic_ext.web.asgi import status_app

EXAMPLE = {
    "numerators": " ".join(str(n) for n in range(1, 51)),
    "denominators": " ".join(str(n) for n in range(50, 0, -1)),
}

DOWN = "This could not be started just now. Please try again in a moment."

logger = logging.getLogger("uvicorn.error")
templates = Jinja2Templates(Path(__file__).with_name("templates"))

app = FastAPI()
app.mount("/task", status_app(celery_app))
app.mount("/static", StaticFiles(packages=[("jobtastic_ext", "static/jobtastic_ext")]))


def page(request: Request, status: int = 200, **values):
    return templates.TemplateResponse(request, "index.html", values, status_code=status)


@app.get("/")
async def index(request: Request, task: str = ""):
    return page(request, **EXAMPLE, task=task)


@app.post("/")
async def divide(request: Request):
    sent = parse_qs((await request.body()).decode())
    form = {name: sent.get(name, [""])[0] for name in EXAMPLE}
    try:
        numerators, denominators = ([float(n) for n in form[name].split()] for name in EXAMPLE)
    except ValueError as error:
        return page(request, 400, **form, failure=f"Not a number: {error}")
    # Celery's calls wait for the broker, so they have no place in the event loop.
    result = await run_in_threadpool(lots_of_division.delay_or_fail, numerators, denominators)
    if await run_in_threadpool(result.failed):  # the broker is down; why is for the log
        logger.warning("not started: %r", result.result)
        return page(request, 503, **form, failure=DOWN)
    return RedirectResponse(f"/?task={result.id}", 303)

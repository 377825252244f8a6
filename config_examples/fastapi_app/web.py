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

#: Nothing runs here but the page's own files, and no text becomes markup.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

logger = logging.getLogger("uvicorn.error")
templates = Jinja2Templates(Path(__file__).with_name("templates"))

files = StaticFiles(
    directory=Path(__file__).with_name("static"),
    packages=[("jobtastic_ext", "static/jobtastic_ext")],
)

app = FastAPI()
# What else goes wrong is for the log: a page shows the task's id, to be quoted.
status = status_app(celery_app, messages="public", public_exceptions=[ZeroDivisionError])
app.mount("/task", status)
app.mount("/static", files)


def page(request: Request, status: int = 200, **values):
    headers = {"Content-Security-Policy": POLICY}
    return templates.TemplateResponse(request, "index.html", values, status, headers)


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

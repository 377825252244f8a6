"""The page: a form, a bar, and the result as a table."""

from flask import Flask, redirect, render_template, request, url_for
from tasks import app as celery_app
from tasks import lots_of_division

from jobtastic_ext.web.flask import blueprint

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

app = Flask(__name__)
# What else goes wrong is for the log: a page shows the task's id, to be quoted.
status = blueprint(celery_app, messages="public", public_exceptions=[ZeroDivisionError])
app.register_blueprint(status, url_prefix="/task")


@app.after_request
def secure(response):
    response.headers["Content-Security-Policy"] = POLICY
    return response


@app.get("/")
def index():
    return render_template("index.html", **EXAMPLE, task=request.args.get("task"))


@app.post("/")
def divide():
    form = {name: request.form.get(name, "") for name in EXAMPLE}
    try:
        numerators, denominators = ([float(n) for n in form[name].split()] for name in EXAMPLE)
    except ValueError as error:
        return render_template("index.html", **form, failure=f"Not a number: {error}"), 400
    result = lots_of_division.delay_or_fail(numerators, denominators)
    if result.failed():  # the broker is down; what it says is for the log, not for the page
        app.logger.warning("not started: %r", result.result)
        return render_template("index.html", **form, failure=DOWN), 503
    return redirect(url_for("index", task=result.id), 303)

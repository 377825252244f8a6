"""The page: a form, a bar, and the result as a table."""

import logging

from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from .tasks import lots_of_division
from .whose import remember

logger = logging.getLogger(__name__)

DOWN = "This could not be started just now. Please try again in a moment."

EXAMPLE = {
    "numerators": " ".join(str(n) for n in range(1, 51)),
    "denominators": " ".join(str(n) for n in range(50, 0, -1)),
}

#: Nothing runs here but the page's own files, and no text becomes markup.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def page(request, values, status=200):
    response = render(request, "index.html", values, status=status)
    response["Content-Security-Policy"] = POLICY
    return response


@require_http_methods(["GET", "POST"])
def index(request):
    if request.method == "GET":
        return page(request, {**EXAMPLE, "task": request.GET.get("task")})
    form = {name: request.POST.get(name, "") for name in EXAMPLE}
    try:
        numerators, denominators = ([float(n) for n in form[name].split()] for name in EXAMPLE)
    except ValueError as error:
        return page(request, {**form, "failure": f"Not a number: {error}"}, 400)
    result = lots_of_division.delay_or_fail(numerators, denominators)
    if result.failed():  # the broker is down; what it says is for the log, not for the page
        logger.warning("not started: %r", result.result)
        return page(request, {**form, "failure": DOWN}, 503)
    remember(request, result)
    return redirect(f"/?task={result.id}")

"""The page: a form, a bar, and the result as a table."""

import logging

from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from .tasks import lots_of_division

logger = logging.getLogger(__name__)

DOWN = "This could not be started just now. Please try again in a moment."

EXAMPLE = {
    "numerators": " ".join(str(n) for n in range(1, 51)),
    "denominators": " ".join(str(n) for n in range(50, 0, -1)),
}


@require_http_methods(["GET", "POST"])
def index(request):
    if request.method == "GET":
        return render(request, "index.html", {**EXAMPLE, "task": request.GET.get("task")})
    form = {name: request.POST.get(name, "") for name in EXAMPLE}
    try:
        numerators, denominators = ([float(n) for n in form[name].split()] for name in EXAMPLE)
    except ValueError as error:
        return render(
            request, "index.html", {**form, "failure": f"Not a number: {error}"}, status=400
        )
    result = lots_of_division.delay_or_fail(numerators, denominators)
    if result.failed():  # the broker is down; what it says is for the log, not for the page
        logger.warning("not started: %r", result.result)
        return render(request, "index.html", {**form, "failure": DOWN}, status=503)
    return redirect(f"/?task={result.id}")

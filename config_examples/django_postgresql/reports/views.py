"""A page to look at, and ``/reports/2026/``, which tells a program the same.

Each starts a report, or joins the one that is made, and says where to look.
"""

from django.http import JsonResponse
from django.shortcuts import render

from .tasks import yearly


def page(request, year=None):
    result = None if year is None else yearly.delay(year)
    return render(request, "page.html", {"years": range(2024, 2028), "result": result})


def report(request, year):
    result = yearly.delay(year)
    return JsonResponse({"id": result.id, "status": f"/task/{result.id}/status/"}, status=202)

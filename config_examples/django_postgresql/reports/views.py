"""``/reports/2026/`` starts a report, or joins the one that is made, and says where to look."""

from django.http import JsonResponse

from .tasks import yearly


def report(request, year):
    result = yearly.delay(year)
    return JsonResponse({"id": result.id, "status": f"/task/{result.id}/status/"}, status=202)

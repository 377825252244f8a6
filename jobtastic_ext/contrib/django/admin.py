"""What is saved and what is under way, as a page of the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import reverse

from ...web.django import views
from ...web.overview import Asked, Overview
from .models import Claim


@admin.register(Claim)
class ClaimAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """Shows it to users with `jobtastic.view_claim`.

    Who has `jobtastic.forget_claim` as well may let go of calls.
    """

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Answer with the page; Django has checked the form's token by now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        given = Overview(views.view().find_app, self.has_view_permission, may_forget).answer(
            Asked(
                request=request,
                method=request.method or "GET",
                query=request.GET.dict(),
                form=request.POST.dict(),
                headers={name.lower(): value for name, value in request.headers.items()},
            ),
            fields={"csrfmiddlewaretoken": get_token(request)},
            home=("Administration", reverse(f"{self.admin_site.name}:index")),
        )
        return HttpResponse(given.body, status=given.status, headers=given.headers)


def may_forget(request: HttpRequest) -> bool:
    """Whether this user may let go of calls."""
    return bool(request.user.has_perm("jobtastic.forget_claim"))

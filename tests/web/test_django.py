"""What is Django's own: which Celery app is asked, and how the setting is checked."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from django.test.utils import override_settings

from tests.integration.conftest import Project
from tests.web.sites import configure_django

configure_django()

from jobtastic_ext.web import django as views  # noqa: E402  (it reads Django's settings)

ROOT = Path(__file__).parent.parent.parent


def ask(task_id: str = "a", **extra: Any) -> Any:
    return views.views.status(RequestFactory().get(f"/task/{task_id}/status/", **extra), task_id)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"authorise": print}, "did you mean `authorize`"),
        ({"nonsense": 1}, "there are app, authorize"),
    ],
)
def test_a_mistake_in_the_setting(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        views.view_of(options)


def test_what_is_called_may_be_named_by_its_path(project: Project) -> None:
    path = f"{__name__}.nobody"
    with override_settings(JOBTASTIC_STATUS={"app": project.app, "authorize": path}):
        assert ask().status_code == 403
    with override_settings(JOBTASTIC_STATUS={"app": project.app}):
        assert ask().status_code == 200


def nobody(request: Any, task_id: str) -> bool:
    return False


def test_a_token_is_for_the_user_who_is_logged_in(project: Project) -> None:
    from jobtastic_ext.web import status_token

    class User:
        is_authenticated = True

        def __init__(self, pk: int) -> None:
            self.pk = pk

    token = status_token("a", user=User(7))
    with override_settings(JOBTASTIC_STATUS={"app": project.app, "signed": True}):
        for user, code in ((User(7), 200), (User(8), 403), (None, 403)):
            request = RequestFactory().get("/task/a/status/", {"token": token})
            if user is not None:
                request.user = user
            assert views.views.status(request, "a").status_code == code


SITE = """
    import threading
    from django.conf import settings
    settings.configure(SECRET_KEY="x" * 20, ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"])
    import django
    django.setup()
    from celery import Celery
    from jobtastic_ext import JobtasticStep

    {apps}

    from django.test import Client

    def ask():
        reply = Client().get("/task/a/status/")
        print(reply.status_code, reply.content.decode())

    # As a server does: in a thread that has not imported the app.
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
"""


def run(tmp_path: Path, apps: str) -> str:
    """Return what the project answers, or the error that it raises."""
    (tmp_path / "urls.py").write_text(
        "from django.urls import include, path\n"
        'urlpatterns = [path("task/", include("jobtastic_ext.web.django"))]\n'
    )
    (tmp_path / "run.py").write_text(textwrap.dedent(SITE).format(apps=textwrap.dedent(apps)))
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout or done.stderr


def test_the_projects_app_is_found(tmp_path: Path) -> None:
    """Celery's `current_app` is not: in another thread it is an app without any settings."""
    apps = f"""
        app = Celery("project", backend="file://{tmp_path}")
        app.steps["worker"].add(JobtasticStep)
        other = Celery("other")
    """
    said = run(tmp_path, apps)
    assert said.startswith("200"), said
    assert '"PENDING"' in said


def test_two_apps_could_be_meant(tmp_path: Path) -> None:
    apps = f"""
        one, other = (Celery(n, backend="file://{tmp_path}") for n in ("one", "other"))
        for app in (one, other):
            app.steps["worker"].add(JobtasticStep)
    """
    assert "2 Celery apps could be meant" in run(tmp_path, apps)


def test_where_people_log_in_a_token_for_nobody_opens_nothing(project: Project) -> None:
    """The default asks who is logged in; a project with public pages says that it does not."""
    from jobtastic_ext.web import status_token

    class Anonymous:
        pk, is_authenticated = None, False

    token = status_token("a")
    request = RequestFactory().get("/task/a/status/", {"token": token})
    with override_settings(JOBTASTIC_STATUS={"app": project.app, "signed": True}):
        assert views.views.status(request, "a").status_code == 200  # a project without users
        request.user = Anonymous()
        assert views.views.status(request, "a").status_code == 403
    with override_settings(JOBTASTIC_STATUS={"app": project.app, "signed": True, "user": None}):
        assert views.views.status(request, "a").status_code == 200

"""A project with a real worker, and its status view behind a real server of each framework."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Project, start_project, unique
from tests.web.sites import FRAMEWORKS, Site, site

__all__ = ("start_project", "unique")


@pytest.fixture(scope="module")
def project(redis_server, tmp_path_factory) -> Iterator[Project]:
    """A project with a prefork worker of two."""
    from tests.integration.conftest import settings_of

    usual = settings_of(redis_server, "redis", tmp_path_factory.mktemp("web"))
    # Not more patient than that: a page waits longer where a call of the store may take long.
    project = Project({**usual, "jobtastic_store_timeout": 1, "jobtastic_publish_timeout": 10})
    project.worker(concurrency=2)
    yield project
    project.close()


@pytest.fixture(scope="module", params=FRAMEWORKS)
def pages(request: pytest.FixtureRequest, project: Project) -> Iterator[Site]:
    """The status view of the project, open to everybody."""
    with site(request.param, project.app) as served:
        yield served


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)

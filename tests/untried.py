"""What cannot be tried on this machine is skipped, says what to install, and fails in CI."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.thorough import CI

#: Debian's package of a program, where it is not the program's name.
PACKAGES = {"node": "nodejs"}

COMMAND = re.compile(r"(apt-get|pip) install (\S+)")

#: What `pytest.importorskip` says.
IMPORT = re.compile(r"could not import '(\w+)'")


#: Where programs are: servers are on no ordinary user's PATH.
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def need(program: str) -> str:
    """Return the path of a program; skip the test if it is missing, or fail in CI."""
    found = shutil.which(program, path=PLACES)
    return found if found else missing(f"{program} is not installed", program)


def missing(what: str, program: str = "", *, module: str = "") -> NoReturn:
    """Skip the test because a program or a module is missing, or fail in CI."""
    if program:
        what += f"; apt-get install {PACKAGES.get(program, program)}"
    elif module:
        what += f"; pip install {module}"
    if CI:
        pytest.fail(f"{what}, and CI must run every test")
    pytest.skip(f"NOT TRIED: {what}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """End with one line: how much was not tried here, and the commands that install it."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.getreports("skipped") if reporter else []
    if skipped:
        reporter.write_line(words_for(skipped), yellow=True)


def words_for(skipped: list[pytest.TestReport]) -> str:
    wanted: dict[str, set[str]] = defaultdict(set)
    others: set[str] = set()
    for report in skipped:
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
        found = [*COMMAND.findall(reason), *(("pip", name) for name in IMPORT.findall(reason))]
        for manager, package in found:
            wanted[manager].add(package)
        if not found:
            others.add(reason.removeprefix("Skipped: "))
    commands = [f"{name} install {' '.join(sorted(wanted[name]))}" for name in sorted(wanted)]
    words = "; ".join(filter(None, (" && ".join(commands), *sorted(others))))
    return f"not tried here: {len(skipped)} tests; {words}"

"""What pip installs, and that the house keeps its own rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jobtastic_ext"
EXAMPLES = sorted((ROOT / "config_examples").rglob("*.yaml"))

#: Files of the package that are not Python, which a wheel easily forgets.
DATA = {
    path.relative_to(ROOT).as_posix()
    for pattern in ("py.typed", "**/*.lua", "**/*.sql", "**/*.yaml", "static/**/*.*")
    for path in PACKAGE.glob(pattern)
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel, built from a copy of what a clone holds."""
    pytest.importorskip("setuptools", minversion="70.1", reason="older ones need `wheel` to build")
    source = tmp_path_factory.mktemp("source")
    kept = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(PACKAGE, source / "jobtastic_ext", ignore=kept)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "pytest_jobtastic.py"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_every_module_and_every_data_file(wheel: zipfile.ZipFile) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")}
    assert (modules | DATA) - set(wheel.namelist()) == set()
    assert "jobtastic_ext/py.typed" in DATA


def test_the_wheel_holds_nothing_but_the_package_and_the_pytest_plugin(
    wheel: zipfile.ZipFile,
) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "jobtastic_ext",
        "pytest_jobtastic.py",
    }


def test_metadata(metadata: Message) -> None:
    assert metadata["Name"] == "jobtastic_ext"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) >= {
        "asgi",
        "demo",
        "django",
        "flask",
        "memcached",
        "test",
    }
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL", []))
    assert {*urls} >= {"Changelog", "Documentation", "Issues", "Source"}
    needed = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert sorted(each.split(">")[0] for each in needed) == [
        "celery[redis]<6,",
        "kombu[redis]",
        "msgspec",
        "psutil",
        "pyyaml",
    ]


def test_the_readme_is_the_long_description(metadata: Message) -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md yet")
    assert metadata["Description-Content-Type"] == "text/markdown"
    told = str(metadata.get_payload())
    assert told.splitlines()[:9] == readme.read_text("utf-8").splitlines()[:9]
    assert not re.search(r'(\]\(|")(docs/|config_examples/|[A-Z]+\.md)', told), "it leads nowhere"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_examples_load(path: Path) -> None:
    from jobtastic_ext.policy.loader import load_policy

    load_policy(path)


def test_nothing_inside_imports_the_face() -> None:
    """`import-linter` holds the floors; the roof, being their parent, is outside its contracts."""
    graph = grimp.build_graph("jobtastic_ext", cache_dir=None)
    users = graph.find_modules_that_directly_import("jobtastic_ext")
    assert {user for user in users if not user.startswith("jobtastic_ext.demo")} == set()


def test_public_ci_calls_targets_of_the_makefile() -> None:
    targets = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text())
    assert targets is not None
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    quick, test = workflow["jobs"]["quick"], workflow["jobs"]["test"]
    called = [*quick["strategy"]["matrix"]["target"]]
    called += [x["run"].split()[1] for x in test["steps"] if x.get("run", "").startswith("make")]
    assert called == ["lint", "docs", "dist", "test"]
    assert {*called} <= {*targets[1].split()}
    versions = {
        f"Programming Language :: Python :: {x}" for x in test["strategy"]["matrix"]["python"]
    }
    assert versions <= {line.strip(' ",') for line in (ROOT / "setup.py").read_text().splitlines()}


def test_an_issue_asks_for_check_and_explain() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    asked = {each.get("id"): each for each in form["body"]}
    for name in ("check", "explain"):
        assert name in asked[name]["attributes"]["label"]
        assert asked[name]["validations"]["required"]


def test_the_picture_in_contributing_is_the_contract() -> None:
    contract = re.search(
        r'name = "Floors.*?layers = \[\n(.*?)\]', (ROOT / "pyproject.toml").read_text("utf-8"), re.S
    )
    picture = re.search(
        r"```\n(\(demo\)\n.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.S
    )
    assert contract
    assert picture
    assert picture[1].split("\n")[:-1] == re.findall(r'"(.+)"', contract[1])

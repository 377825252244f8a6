"""``python -m tests.stores``: the stores' tests with the oldest and the newest redis-py permitted.

Each with and without hiredis, in environments of their own; on Redis (the one installed), Valkey
(of the wheel), Sentinel and a cluster.  It takes some minutes and needs a package index.  Exit code
0 only if every test passed in every environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The oldest comes with the oldest Celery and kombu; the newest is what pip takes by itself.
CELLS = {
    "oldest": ["celery[redis]==5.4.*", "kombu==5.3.7", "redis==4.5.2"],
    "newest": ["celery[redis]>=5.7", "redis>=8.1"],
}
HIREDIS = {"oldest": "hiredis==2.2.3", "newest": "hiredis>=3.2"}

TESTS = ("test_redis.py", "test_valkey.py", "test_sentinel.py", "test_cluster.py", "test_twins.py")


def main() -> int:
    failed = []
    with tempfile.TemporaryDirectory(prefix="stores-") as folder:
        for name, pins in CELLS.items():
            home = Path(folder, name)
            venv.create(home, with_pip=True)
            python = str(home / "bin" / "python")
            install(python, "-e", f"{ROOT}[test,demo]", *pins)
            if not test(python, f"{name} redis-py, without hiredis"):
                failed.append(name)
            install(python, HIREDIS[name])
            if not test(python, f"{name} redis-py, with hiredis"):
                failed.append(f"{name} with hiredis")
    print(f"failed: {', '.join(failed)}" if failed else "every environment passed")
    return 1 if failed else 0


def install(python: str, *what: str) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *what], check=True, cwd=ROOT)


def test(python: str, title: str) -> bool:
    show = "import redis, celery, kombu, importlib.util as u;"
    show += "print(redis.__version__, celery.__version__, kombu.__version__, "
    show += "'hiredis' if u.find_spec('hiredis') else '')"
    versions = subprocess.run([python, "-c", show], capture_output=True, text=True, check=True)
    print(f"{title} (redis-py, Celery, kombu: {versions.stdout.strip()})", flush=True)
    paths = [f"tests/stores/{name}" for name in TESTS]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())

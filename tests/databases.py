"""Real databases for tests, on free ports of loopback: one of each kind for a test process."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobtastic_ext.testing.server import LOOPBACK, free_port
from tests.rabbitmq import die_with_parent
from tests.untried import PLACES, missing, need

__all__ = ("Database", "MariaDB", "PostgreSQL", "mariadb", "postgres")

#: Seconds in which a server answers.
PATIENCE = 60


class Database:
    """A server whose data lasts until `stop`.  As root it runs as somebody else."""

    scheme = ""
    options = ""
    #: How the server is told to end at once.
    end: signal.Signals = signal.SIGKILL

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobtastic-database-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)

    @property
    def url(self) -> str:
        """As SQLAlchemy writes it."""
        return f"{self.scheme}@{LOOPBACK}:{self.port}/test{self.options}"

    def prepare(self) -> None:
        """Make the empty database."""
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.folder, user=self.user, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]

    def start(self) -> None:
        """Start, and return when it greets."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                user=self.user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = (self.folder / "log").read_text(errors="replace")[-3000:]
                self.stop()
                raise RuntimeError(f"{self.command()[0]} did not start:\n{words}")
            time.sleep(0.02)

    def answers(self) -> bool:
        raise NotImplementedError

    def kill(self) -> None:
        """End the server at once; `start` finds its data again."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(self.end)
            process.wait(PATIENCE)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Database:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class PostgreSQL(Database):
    """Of the wheel `pgserver`, or the system's."""

    scheme = "postgresql://postgres"
    end = signal.SIGQUIT  # takes its children along

    def __init__(self) -> None:
        self.programs = programs()
        super().__init__()

    def prepare(self) -> None:
        self.run(
            f"{self.programs}/initdb", "-D", str(self.data), "-A", "trust", "-U", "postgres", "-N",
            "--no-locale", "-E", "UTF8",
        )  # fmt: skip
        done = subprocess.run(
            [f"{self.programs}/postgres", "--single", "-D", str(self.data), "postgres"],
            input=b"CREATE DATABASE test\n",
            user=self.user,
            cwd=self.folder,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        return [
            f"{self.programs}/postgres", "-D", str(self.data), "-h", LOOPBACK, "-p", str(self.port),
            "-k", "", "-c", "max_connections=300", "-c", "fsync=off",
        ]  # fmt: skip

    def answers(self) -> bool:
        # Its answer to whether it speaks TLS comes before it serves; so ask for the database.
        body = b"\x00\x03\x00\x00user\x00postgres\x00database\x00test\x00\x00"
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), 5) as connection:
            connection.sendall((len(body) + 4).to_bytes(4, "big") + body)
            return connection.recv(1) == b"R"
        return False


def programs() -> str:
    """The folder of PostgreSQL's programs; the test is skipped without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pgserver.utils
            from pgserver._commands import POSTGRES_BIN_PATH
        except ImportError:
            return str(Path(need("initdb")).resolve().parent)
        if os.geteuid() == 0:
            # Others have to reach them.
            pgserver.utils.ensure_prefix_permissions(POSTGRES_BIN_PATH)
            pgserver.utils.ensure_folder_permissions(POSTGRES_BIN_PATH, 0o055)
            pgserver.utils.ensure_folder_permissions(POSTGRES_BIN_PATH.parent / "lib", 0o044)
    return str(POSTGRES_BIN_PATH)


class MariaDB(Database):
    """The system's MariaDB, or MySQL 8."""

    scheme = "mysql+pymysql://root"
    #: PyMySQL reads every authority of the machine for each connection, which takes 30 to 180 ms.
    options = "?ssl_disabled=true"

    def __init__(self) -> None:
        found = shutil.which("mariadbd", path=PLACES) or shutil.which("mysqld", path=PLACES)
        if not found:
            missing("neither MariaDB nor MySQL is installed", "mariadb-server")
        self.program = found
        super().__init__()

    @property
    def tmpdir(self) -> str:
        """Two servers that share one take each other's temporary tables away."""
        return f"--tmpdir={self.folder}/tmp"

    def prepare(self) -> None:
        for folder in (self.data, self.folder / "tmp"):
            folder.mkdir(mode=0o700)
            if self.user:
                shutil.chown(folder, self.user)
        install = shutil.which("mariadb-install-db") or shutil.which("mysql_install_db")
        user = self.user or getpass.getuser()
        if install:
            self.run(
                install, "--no-defaults", f"--datadir={self.data}", f"--user={user}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
                self.tmpdir,
            )  # fmt: skip
        else:
            self.run(
                self.program,
                "--no-defaults",
                "--initialize-insecure",
                f"--datadir={self.data}",
                self.tmpdir,
            )
        # MySQL's first user may come from no other host than the one that it calls localhost.
        (self.folder / "start.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS test;\n"
            f"CREATE USER IF NOT EXISTS root@'{LOOPBACK}';\n"
            f"GRANT ALL ON *.* TO root@'{LOOPBACK}' WITH GRANT OPTION;\n"
        )

    def command(self) -> list[str]:
        return [
            self.program, "--no-defaults", f"--datadir={self.data}", f"--port={self.port}",
            f"--bind-address={LOOPBACK}", f"--socket={self.folder}/socket",
            f"--pid-file={self.folder}/pid", f"--init-file={self.folder}/start.sql",
            "--max-connections=300", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=32M", "--skip-log-bin", "--skip-name-resolve",
            f"--secure-file-priv={self.folder}", "--loose-mysqlx=OFF",
            self.tmpdir,
        ]  # fmt: skip

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), 5) as connection:
            return len(connection.recv(5)) == 5
        return False


@pytest.fixture(scope="session")
def postgres() -> Iterator[Database]:
    """A running PostgreSQL."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Database]:
    """A running MariaDB or MySQL."""
    with MariaDB() as server:
        yield server

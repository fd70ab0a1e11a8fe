"""A PostgreSQL server of the distribution's package, in a folder of its own, by a user without rights."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.ports import free_port

START_SECONDS: Final = "30"
PASSWORD: Final = "only-for-this-test"  # of a server on loopback that lives as long as the test run


class PostgresServer:
    """One server, which can be stopped and started again; it keeps what it holds until `run_postgres_server` ends."""

    def __init__(self, folder: Path) -> None:
        self._programs = postgres_programs()
        # PostgreSQL does not run as root; the package brings a user.
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._folder = folder
        self._data, self._port = folder / "data", free_port()
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        for path in (folder, password_file):
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._call(
            "initdb",
            *("-D", str(self._data), "-U", "test", "-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8"),
        )

    @property
    def url(self) -> str:
        """The beginning of its URLs, to be ended by a database's name."""
        return f"postgresql+asyncpg://test:{PASSWORD}@127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = (
            f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off"
        )
        log = str(self._data / "log")
        self._call("pg_ctl", "-D", str(self._data), "-w", "-t", START_SECONDS, "-o", options, "-l", log, "start")

    def stop(self) -> None:
        """End it at once, with every connection to it."""
        self._call("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        is_root = os.geteuid() == 0
        with (self._folder / "log").open("ab") as log:
            try:
                subprocess.run(
                    [self._programs / program, *arguments],
                    user=self._account.pw_uid if is_root else None,
                    group=self._account.pw_gid if is_root else None,
                    extra_groups=[] if is_root else None,
                    cwd=self._folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=60,
                    check=True,
                )
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"{program}: {(self._folder / 'log').read_text()[-2000:]}") from error


@contextlib.contextmanager
def run_postgres_server() -> Iterator[PostgresServer]:
    """Start a server and stop it at the end; whoever has stopped it meanwhile starts it again.

    Raises:
        FileNotFoundError: the package is not installed; scripts/system-packages test installs it.
    """
    folder = Path(tempfile.mkdtemp(prefix="redconnect-postgres-"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def run_postgres() -> Iterator[str]:
    """As `run_postgres_server`, for those who need nothing but the beginning of its URLs."""
    with run_postgres_server() as server:
        yield server.url


def postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed; run scripts/system-packages test")
    return found[-1].parent

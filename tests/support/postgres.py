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


@contextlib.contextmanager
def run_postgres() -> Iterator[str]:
    """Start a server and stop it at the end; gives the beginning of its URLs, to be ended by a database's name.

    Raises:
        FileNotFoundError: the package is not installed; scripts/system-packages test installs it.
    """
    programs = postgres_programs()
    # PostgreSQL does not run as root; the package brings a user.
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    folder = Path(tempfile.mkdtemp(prefix="redconnect-postgres-"))
    try:
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        for path in (folder, password_file):
            os.chown(path, account.pw_uid, account.pw_gid)
        data, port = folder / "data", free_port()

        def call(program: str, *arguments: str) -> None:
            with (folder / "log").open("ab") as log:
                try:
                    subprocess.run(
                        [programs / program, *arguments],
                        user=account.pw_uid if os.geteuid() == 0 else None,
                        group=account.pw_gid if os.geteuid() == 0 else None,
                        extra_groups=[] if os.geteuid() == 0 else None,
                        cwd=folder,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        timeout=60,
                        check=True,
                    )
                except subprocess.CalledProcessError as error:
                    raise RuntimeError(f"{program}: {(folder / 'log').read_text()[-2000:]}") from error

        call(
            "initdb", "-D", str(data), "-U", "test", "-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8"
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-D", str(data), "-w", "-t", START_SECONDS, "-o", options, "-l", str(data / "log"), "start")
        try:
            yield f"postgresql+asyncpg://test:{PASSWORD}@127.0.0.1:{port}/"
        finally:
            call("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def postgres_programs() -> Path:
    """The folder of the package's programs.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed; run scripts/system-packages test")
    return found[-1].parent

"""A real Redis server on a free loopback port, in a folder of its own and not as a service."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.ports import free_port
from tests.support.service import LOOK_EVERY_SECONDS

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 10.0


class RedisServer:
    """One server, which can be stopped and started again. It forgets everything when it stops."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is missing: scripts/system-packages test"
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", HOST, "--save", "", "--dir", str(folder)]
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `signaling.redis_url` takes."""
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.ask("PING") == b"+PONG\r\n":
                    return
            time.sleep(LOOK_EVERY_SECONDS)
        raise RuntimeError(f"redis-server does not answer: {self._log.read_text()[-1000:]}")

    def ask(self, command: str) -> bytes:
        """Give an inline command and return the first bytes of the answer."""
        with socket.create_connection((HOST, self.port), timeout=5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(65_536)

    def stop(self) -> None:
        """End it at once; harmless if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(timeout=STOP_SECONDS)


@contextlib.contextmanager
def run_redis(folder: Path) -> Iterator[RedisServer]:
    """Run a server for a while; `folder` takes its log."""
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()

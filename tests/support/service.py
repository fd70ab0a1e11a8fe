"""The real service as a child process, on free ports or inside a namespace, stopped as systemd would stop it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0
LOOK_EVERY_SECONDS: Final = 0.02  # whoever looks without a pause takes the CPU from whom it waits for
STOP_SECONDS: Final = 5.0  # what the product promises after SIGTERM


class Codes(NamedTuple):
    """What `redconnect appointment create` printed."""

    organiser: str
    organiser_link: str
    participant: str
    participant_link: str


class Service:
    """A running `redconnect serve`. Use `run_service`."""

    def __init__(
        self, process: subprocess.Popen[bytes], config: Path, log: Path, prefix: list[str], settings: dict[str, Any]
    ) -> None:
        self.process = process
        self.config = config
        self.log = log
        self.settings = settings
        self._prefix = prefix
        self._admin_port = settings["admin"]["port"]

    @property
    def pid(self) -> int:
        """The PID of the service itself."""
        return self.process.pid

    def command(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run another redconnect command with the same configuration."""
        return subprocess.run(
            [*self._prefix, sys.executable, "-m", "config", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            check=False,
        )

    def create_appointment(self, start: str = "now", *options: str) -> Codes:
        """Create an appointment on the command line, as an operator would."""
        result = self.command("appointment", "create", "--start", start, "--json", *options)
        assert result.returncode == 0, result.stderr
        created = json.loads(result.stdout)
        organiser, participant = created["organiser"], created["participant"]
        return Codes(organiser["code"], organiser["link"], participant["code"], participant["link"])

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by name and labels as they are written there."""
        samples = {}
        for line in self.admin("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def admin(self, path: str) -> str:
        """The body of an admin page, fetched from inside the service's namespace."""
        if not self._prefix:
            return self._fetch(path)
        script = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"
        url = f"http://127.0.0.1:{self._admin_port}{path}"
        result = subprocess.run(
            [*self._prefix, sys.executable, "-c", script, url], capture_output=True, text=True, timeout=20, check=False
        )
        if result.returncode:
            raise ConnectionError(result.stderr[-300:])
        return result.stdout

    def configure(self, changes: dict[str, Any]) -> None:
        """Write other settings into the file: sections are merged, keys replaced. `reload` takes them into use."""
        self.settings = _merge(self.settings, changes)
        fresh = self.config.with_suffix(".new")
        fresh.write_text(json.dumps(self.settings))
        fresh.replace(self.config)  # at once: half a file may be a right one, and an empty file means the defaults

    def hang_up(self) -> None:
        """SIGHUP, without waiting for what comes of it."""
        self.process.send_signal(signal.SIGHUP)

    def reload(self, changes: dict[str, Any] | None = None, *, result: str = "success") -> str:
        """Change the file if there are changes, send SIGHUP, wait until it has been counted; returns what was logged.

        Raises:
            TimeoutError: the metric does not count another `result`.
        """
        if changes is not None:
            self.configure(changes)
        name = f'redconnect_reloads_total{{result="{result}"}}'
        before, start = self.metrics()[name], len(self.log.read_text())
        self.hang_up()
        self.await_that(lambda: self.metrics()[name] > before)
        return self.log.read_text()[start:]

    def terminate(self) -> None:
        """SIGTERM, without waiting for the end."""
        self.process.terminate()

    def await_end(self, seconds: float = STOP_SECONDS) -> str:
        """Wait until the service has ended cleanly; returns what was logged."""
        self.process.wait(timeout=seconds)
        logged = self.log.read_text()
        assert self.process.returncode == 0, f"exit status {self.process.returncode}: {logged[-2000:]}"
        return logged

    def await_that(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for something that the service does in its own time.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it does not come true: {self.log.read_text()[-2000:]}")
            time.sleep(LOOK_EVERY_SECONDS)

    def is_ready(self) -> bool:
        """What `/readyz` says, by its status."""
        return self.admin_status("/readyz") == HTTPStatus.OK

    def readiness(self) -> dict[str, Any]:
        """What `/readyz` says, ready or not; fetched from here."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}/readyz", timeout=10) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                return dict(json.loads(error.read()))

    def admin_status(self, path: str) -> int:
        """The HTTP status of an admin page, fetched from here."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def _fetch(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}{path}", timeout=20) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise ConnectionError(str(error)) from error

    def stop(self) -> str:
        """SIGTERM; returns what was logged. The service must end cleanly within five seconds."""
        self.terminate()
        return self.await_end()


@contextlib.contextmanager
def run_service(
    folder: Path,
    settings: dict[str, Any],
    namespace: str | None = None,
    program: Sequence[str] = ("config",),
    niceness: int = 0,
) -> Iterator[Service]:
    """Start the service, wait until it says that it is ready, stop it at the end; it may not have told of a bug.

    Args:
        folder: takes the configuration and the state.
        settings: what differs from the defaults; `state_dir` and a free admin port are added.
        namespace: where to run; None for here.
        program: the module that takes the command line, and what comes before it.
        niceness: below zero, it comes before everything else on this machine.
    """
    settings = {"state_dir": str(folder / "var"), "admin": {"port": free_port()}, **settings}
    config = folder / "redconnect.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML, too
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    log = folder / "service.log"  # a file: a pipe that nobody reads would stop the service when it is full
    with log.open("a") as stream:
        process = subprocess.Popen(
            ["nice", "-n", str(niceness), *prefix, sys.executable, "-m", *program, "serve", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=stream,
            cwd=ROOT,
        )
    service = Service(process, config, log, prefix, settings)
    try:
        _await_ready(service)
        yield service
        if process.poll() is None:
            service.stop()
        # What fails on the way of one packet is told there, and nowhere else.
        assert ": a bug" not in (told := log.read_text()), told
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=STOP_SECONDS)


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The values with the changes; a mapping in both is merged, short of mappings below the second level."""
    merged = dict(values)
    for key, change in changes.items():
        section = merged.get(key)
        merged[key] = {**section, **change} if isinstance(section, dict) and isinstance(change, dict) else change
    return merged


def _await_ready(service: Service) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise RuntimeError(f"the service ended at its start: {service.log.read_text()[-2000:]}")
        with contextlib.suppress(ConnectionError, subprocess.TimeoutExpired):
            if json.loads(service.admin("/readyz"))["ready"]:
                return
        time.sleep(LOOK_EVERY_SECONDS)
    raise RuntimeError(f"the service was not ready within {START_SECONDS} s")

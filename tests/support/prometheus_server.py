"""A real Prometheus on a free loopback port that scrapes what a test runs, with the rules of deploy/."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.ports import free_port
from tests.support.service import LOOK_EVERY_SECONDS, ROOT

FOLDER: Final = ROOT / "deploy" / "prometheus"
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0


class PrometheusServer:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._port = port

    def is_ready(self) -> bool:
        url = f"http://127.0.0.1:{self._port}/-/ready"
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK)
        return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples that an expression yields now.

        Raises:
            ValueError: Prometheus refuses the expression; the message says why.
        """
        body = urllib.parse.urlencode({"query": expr}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/query", data=body, timeout=20) as answer:
                value = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{expr}: {error.read().decode()}") from error
        samples: list[dict[str, Any]] = value["data"]["result"]
        return samples

    def rules(self) -> list[dict[str, Any]]:
        """All rules that it evaluates, with their health."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/rules", timeout=20) as answer:
            groups = json.load(answer)["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextlib.contextmanager
def run_prometheus(folder: Path, targets: Sequence[str]) -> Iterator[PrometheusServer]:
    """Run it with deploy's configuration, which scrapes these targets once a second instead of its own.

    Args:
        folder: takes its configuration, data and log.
        targets: HOST:PORT of admin ports.
    """
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is missing: scripts/system-packages test"
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(FOLDER / name) for name in settings["rule_files"]]
    settings["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(settings))
    port = free_port()
    log = folder / "prometheus.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=stream,
            stderr=stream,
        )
    server = PrometheusServer(port)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"prometheus does not start: {log.read_text()[-2000:]}")
            time.sleep(LOOK_EVERY_SECONDS)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=STOP_SECONDS)

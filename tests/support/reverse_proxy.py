"""nginx and HAProxy with the files of deploy/, in front of services that a test runs."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.ports import free_port
from tests.support.service import LOOK_EVERY_SECONDS, ROOT, Service
from tests.support.wire_client import Server

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
PROXY: Final = "127.0.0.1"  # its clients come from elsewhere in 127/8


class Front(NamedTuple):
    """A proxy in front of a service."""

    service: Service
    relay: Server
    url: str


@contextlib.contextmanager
def run_proxy(command: Sequence[str], port: int, log: Path) -> Iterator[None]:
    """Run a proxy until the end of the block, and begin when it listens."""
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start: {log.read_text()[-2000:]}")
            time.sleep(LOOK_EVERY_SECONDS)
        yield
    finally:
        process.terminate()
        process.wait(timeout=STOP_SECONDS)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((PROXY, port), timeout=5):
        return True
    return False


def certificate(service: Service) -> tuple[Path, Path]:
    folder = Path(service.settings["state_dir"])
    return folder / "certificate.pem", folder / "private-key.pem"


def replace(text: str, *changes: tuple[str, str]) -> str:
    """The text with these words in place of its own, each of which must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def behind_nginx(relay: Server, folder: Path) -> Iterator[Front]:
    """The service behind nginx."""
    port, plain = free_port(), free_port()
    chain, key = certificate(relay.service)
    site = replace(
        (ROOT / "deploy/nginx/redconnect.conf").read_text(),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("    listen [::]:80;\n", ""),
        ("127.0.0.1:8080", f"127.0.0.1:{relay.service.settings['signaling']['port']}"),
        ("/etc/redconnect/tls/fullchain.pem", str(chain)),
        ("/etc/redconnect/tls/privkey.pem", str(key)),
        ("/var/log/nginx/redconnect.log", str(folder / "nginx-error.log")),
    )
    (folder / "site.conf").write_text(site)
    temporary = "".join(
        f"{name}_temp_path {folder}/nginx-{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"user root;\npid {folder}/nginx.pid;\nevents {{}}\nhttp {{\n{temporary}include {folder}/site.conf;\n}}\n"
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [
        program,
        "-p",
        str(folder),
        "-c",
        str(config),
        "-g",
        "daemon off;",
        "-e",
        str(folder / "nginx-start.log"),
    ]
    with run_proxy(command, port, folder / "nginx.log"):
        yield Front(relay.service, relay, f"https://127.0.0.1:{port}")


@contextlib.contextmanager
def behind_haproxy(relay: Server, folder: Path, *others: Server) -> Iterator[Front]:
    """HAProxy in front of a node, and of others."""
    port, turns = free_port(), free_port()
    nodes = (relay, *others)
    chain, key = certificate(relay.service)
    both = folder / "haproxy.pem"
    both.write_text(chain.read_text() + key.read_text())
    config = folder / "haproxy.cfg"
    text = replace(
        (ROOT / "deploy/haproxy/haproxy.cfg").read_text(),
        ("maxconn 50000", "maxconn 1000"),  # as many descriptors as anybody may open
        ("bind :443 ", f"bind {PROXY}:{port} "),
        ("bind :5349", f"bind {PROXY}:{turns}"),
        ("/etc/haproxy/redconnect.pem", str(both)),
        (" check port 9641", " check"),  # on one machine each node has an admin port of its own
        ("    server node2 192.0.2.12:8080\n", ""),
        ("    server node2 192.0.2.12:5349 send-proxy-v2\n", ""),
        (
            "    server node1 192.0.2.11:8080\n",
            _servers(nodes, lambda node: node.service.settings["signaling"]["port"]),
        ),
        (
            "    server node1 192.0.2.11:5349 send-proxy-v2\n",
            _servers(nodes, lambda node: node.ports["tls"], " send-proxy-v2"),
        ),
    )
    config.write_text(text)
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with run_proxy([program, "-db", "-f", str(config)], port, folder / "haproxy.log"):
        through = relay._replace(ports={**relay.ports, "tls": turns})
        yield Front(relay.service, through, f"https://127.0.0.1:{port}")


def _port_of_pages(node: Server) -> int:
    return int(node.service.settings["signaling"]["port"])


def _servers(nodes: Sequence[Server], port_of: Callable[[Server], int], words: str = "") -> str:
    """The lines of a backend."""
    return "".join(
        f"    server node{number} {PROXY}:{port_of(node)} port {node.service.settings['admin']['port']}{words}\n"
        for number, node in enumerate(nodes)
    )

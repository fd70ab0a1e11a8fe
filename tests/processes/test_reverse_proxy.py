"""nginx and HAProxy, as deploy/ configures them, in front of the running service."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import ClientSession, TCPConnector

from stun.attributes import XOR_MAPPED_ADDRESS
from tests.support.ports import free_port
from tests.support.service import LOOK_EVERY_SECONDS, ROOT, Service
from tests.support.wire_client import Server, run_relay

START_SECONDS = 20.0
STOP_SECONDS = 10.0
PROXY = "127.0.0.1"  # its clients come from elsewhere in 127/8
CODES_PER_MINUTE = 10
CLOSED = -1


class Front(NamedTuple):
    """A proxy in front of the service."""

    service: Service
    relay: Server
    url: str


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Server]:
    signaling = {"port": free_port(), "listen_addresses": [PROXY], "proxies": [f"{PROXY}/32"]}
    signaling["unknown_codes_per_minute"] = CODES_PER_MINUTE
    with run_relay(
        tmp_path, services=("relay", "signaling"), signaling=signaling, proxy_sources=[f"{PROXY}/32"]
    ) as server:
        yield server


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
def behind_haproxy(relay: Server, folder: Path) -> Iterator[Front]:
    port, turns = free_port(), free_port()
    chain, key = certificate(relay.service)
    both = folder / "haproxy.pem"
    both.write_text(chain.read_text() + key.read_text())
    settings = relay.service.settings
    config = folder / "haproxy.cfg"
    text = replace(
        (ROOT / "deploy/haproxy/haproxy.cfg").read_text(),
        ("maxconn 50000", "maxconn 1000"),  # as many descriptors as anybody may open
        ("bind :443 ", f"bind 127.0.0.1:{port} "),
        ("bind :5349", f"bind 127.0.0.1:{turns}"),
        ("/etc/haproxy/redconnect.pem", str(both)),
        ("check port 9641", f"check port {settings['admin']['port']}"),
        ("192.0.2.11:8080", f"127.0.0.1:{settings['signaling']['port']}"),
        ("192.0.2.11:5349", f"127.0.0.1:{relay.ports['tls']}"),
        ("    server node2 192.0.2.12:8080\n", ""),
        ("    server node2 192.0.2.12:5349 send-proxy-v2\n", ""),
    )
    config.write_text(text)
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with run_proxy([program, "-db", "-f", str(config)], port, folder / "haproxy.log"):
        through = relay._replace(ports={**relay.ports, "tls": turns})
        yield Front(relay.service, through, f"https://127.0.0.1:{port}")


@pytest.fixture(params=[behind_nginx, behind_haproxy], ids=["nginx", "haproxy"])
def front(request: pytest.FixtureRequest, relay: Server, tmp_path: Path) -> Iterator[Front]:
    make: Callable[[Server, Path], contextlib.AbstractContextManager[Front]] = request.param
    with make(relay, tmp_path) as made:
        yield made


async def join(front: Front, locator: str, *, source: str = "127.0.0.2", claims: str = "") -> str:
    """What a join is told; the client comes from an address of its own, and may claim to come from another one."""
    headers = {"Origin": front.url} | ({"X-Forwarded-For": claims} if claims else {})
    connector = TCPConnector(local_addr=(source, 0), ssl=False)
    async with (
        ClientSession(connector=connector) as session,
        session.ws_connect(f"{front.url}/ws", headers=headers) as connection,
    ):
        await connection.send_json({"type": "join", "loc": locator})
        answer = json.loads((await connection.receive(timeout=20)).data)
        sock = connection.get_extra_info("socket")
    async with asyncio.timeout(20):
        # A TLS connection lets go of its socket some turns of the loop later, and tells nobody.
        while sock.fileno() != CLOSED:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return str(answer.get("code") or answer["type"])


async def test_pages_come_through_with_every_header_that_guards_them(front: Front) -> None:
    async with ClientSession(connector=TCPConnector(ssl=False)) as session, session.get(f"{front.url}/") as page:
        assert page.status == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "RED Connect Videosprechstunde" in await page.text()


async def test_a_consultation_begins_through_the_proxy(front: Front) -> None:
    codes = await asyncio.to_thread(front.service.create_appointment)
    assert await join(front, codes.organiser.replace("-", "")[:6]) == "joined"


async def test_who_guesses_codes_is_held_up_and_his_neighbour_behind_the_same_proxy_is_not(front: Front) -> None:
    told = [await join(front, "000000") for _ in range(CODES_PER_MINUTE + 1)]
    assert told == ["unknown_code"] * CODES_PER_MINUTE + ["rate_limited"]
    assert await join(front, "000000", source="127.0.0.3") == "unknown_code"


async def test_nobody_escapes_by_claiming_other_addresses(front: Front) -> None:
    told = [await join(front, "000000", claims=f"203.0.113.{number}") for number in range(CODES_PER_MINUTE + 1)]
    assert told[-1] == "rate_limited"


async def test_without_a_proxy_in_the_settings_the_header_is_not_believed(front: Front) -> None:
    await asyncio.to_thread(front.service.reload, {"signaling": {"proxies": []}})
    for number in range(CODES_PER_MINUTE):
        await join(front, "000000", source=f"127.0.0.{number + 10}")
    assert await join(front, "000000", source="127.0.0.99") == "rate_limited"


def test_turn_over_tls_comes_through_haproxy_and_the_relay_sees_the_client(relay: Server, tmp_path: Path) -> None:
    with behind_haproxy(relay, tmp_path) as front:
        client = front.relay.client("tls")
        with contextlib.closing(client):
            response = client.allocate()
            assert response.code == 0
            assert response.get(XOR_MAPPED_ADDRESS) == client.address

"""A name, a code and an address put into every door of the running service: none may come out in its log."""

import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from stun.attributes import REQUESTED_TRANSPORT, SOFTWARE, USERNAME
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.ports import free_port
from tests.support.service import run_service
from tests.support.turn_client import TurnClient
from tests.support.wire import UdpWire
from tests.support.wire_client import Server, WireClient

NAME, ADDRESS = "Erika Mustermann", "198.51.100.77"
HOST = "127.0.0.1"
LEVELS = ("debug", "info")


@pytest.fixture(params=LEVELS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, dict[str, int]]]:
    ports = {name: free_port() for name in ("udp", "tls", "pages")}
    settings = {
        "services": ["relay", "signaling"],
        "relay": {
            "listen_addresses": [HOST],
            "udp_ports": [ports["udp"]],
            "tcp_ports": [],
            "tls_ports": [ports["tls"]],
        },
        "signaling": {"port": ports["pages"], "listen_addresses": [HOST]},
        "log": {"format": "json", "level": request.param},
    }
    with run_service(tmp_path, settings) as service:
        yield Server(service, ports), ports


def fetch(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    request = urllib.request.Request(url, data=body, headers=headers or {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def send_raw(port: int, data: bytes) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError), socket.create_connection((HOST, port), timeout=5) as sock:
        sock.sendall(data)
        sock.recv(4096)


async def talk(port: int, code: str) -> None:
    url = f"http://{HOST}:{port}"
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws", origin=url) as socket_:
        await socket_.send_str(json.dumps({"type": "join", "locator": code, "name": NAME, "address": ADDRESS}))
        await socket_.send_str(f"{NAME} {code} {ADDRESS} is no JSON")
        await socket_.send_bytes(NAME.encode())
        async for _ in socket_:
            break


async def test_nothing_that_comes_in_is_told(server: tuple[Server, dict[str, int]]) -> None:
    relay, ports = server
    codes = relay.service.create_appointment()
    inputs = f"{NAME} {codes.organiser} {ADDRESS}"
    quoted = urllib.parse.quote(inputs)
    pages = f"http://{HOST}:{ports['pages']}"
    headers = {"X-Forwarded-For": ADDRESS, "User-Agent": quoted, "Authorization": f"Bearer {quoted}"}
    for path in (f"/{quoted}", f"/hilfe?{quoted}", f"/api/v1/appointments/{quoted}", f"/static/../{quoted}"):
        assert fetch(pages + path, headers=headers) < HTTPStatus.INTERNAL_SERVER_ERROR
    fetch(f"{pages}/api/v1/appointments", inputs.encode(), headers)
    for raw in (inputs.encode(), f"GET /{inputs} HTTP/9.9\r\n\r\n".encode(), f"{inputs}\r\n\r\n".encode()):
        send_raw(ports["pages"], raw)
        send_raw(ports["tls"], raw)
        send_raw(relay.service.settings["admin"]["port"], raw)
    with contextlib.suppress(OSError), socket.create_connection((HOST, ports["tls"]), timeout=5) as plain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.wrap_socket(plain, server_hostname="erika-mustermann.example").close()
    user = TurnClient(NAME, codes.organiser)
    with contextlib.closing(WireClient(UdpWire((HOST, ports["udp"])), user)) as client:
        assert client.allocate().code == 401
        transaction = bytes(12)
        attributes = [USERNAME.pack(inputs), REQUESTED_TRANSPORT.pack(17), SOFTWARE.pack(inputs)]
        client.wire.send(encode_message(Method.ALLOCATE, MessageClass.REQUEST, transaction, attributes))
        client.wire.send(inputs.encode())
        client.exchange(client.binding())
    await talk(ports["pages"], codes.organiser.replace("-", ""))
    assert fetch(pages + "/", headers=headers) == HTTPStatus.OK
    logged = relay.service.stop()
    assert "stopped" in logged
    for code in (codes.organiser, codes.participant):
        for secret in (code, code.replace("-", ""), code[:6], code.replace("-", "")[:6]):
            assert secret not in logged
    for secret in (NAME, "Mustermann", "mustermann", ADDRESS, quoted):
        assert secret not in logged
    assert all(json.loads(line)["message"] for line in logged.splitlines())

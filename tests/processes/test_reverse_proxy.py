"""nginx and HAProxy, as deploy/ configures them, in front of the running service."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector

from stun.attributes import XOR_MAPPED_ADDRESS
from tests.support.ports import free_port
from tests.support.reverse_proxy import PROXY, Front, behind_haproxy, behind_nginx
from tests.support.wire_client import Server, run_relay

CODES_PER_MINUTE = 10
CLOSED = -1


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Server]:
    signaling = {"port": free_port(), "listen_addresses": [PROXY], "proxies": [f"{PROXY}/32"]}
    signaling["unknown_codes_per_minute"] = CODES_PER_MINUTE
    with run_relay(
        tmp_path, services=("relay", "signaling"), signaling=signaling, proxy_sources=[f"{PROXY}/32"]
    ) as server:
        yield server


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

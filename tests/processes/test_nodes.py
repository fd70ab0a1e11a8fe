"""Several signaling nodes as real processes around a real Redis: they serve the same rooms, and one may die."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, run_redis
from tests.support.service import Service, run_service

PATIENCE = 15.0  # seconds; nothing waits them out
SECRET = "a-secret-of-at-least-thirty-two-bytes"
BUS = "redconnect_signaling_bus"


class Client:
    """One page's WebSocket at one node."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.pid = ""
        self.token = ""

    async def send(self, **message: Any) -> None:  # noqa: ANN401 - JSON
        await self.socket.send_json(message)

    async def receive(self) -> dict[str, Any]:
        """The next message; `{"closed": code}` at the end."""
        message = await self.socket.receive(timeout=PATIENCE)
        if message.type is WSMsgType.TEXT:
            read: dict[str, Any] = json.loads(message.data)
            return read
        return {"closed": self.socket.close_code}

    async def hear(self, **wanted: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Read on until a message that has these fields."""
        while True:
            message = await self.receive()
            if wanted.items() <= message.items():
                return message
            assert "closed" not in message, f"closed, instead of {wanted}"


class Nodes:
    """Two nodes, their Redis, and the clients of a test."""

    def __init__(self, first: Service, second: Service, redis: RedisServer, session: ClientSession) -> None:
        self.services = (first, second)
        self.redis = redis
        self._session = session

    def plan(self) -> tuple[str, str]:
        """Create an appointment; returns the locators of organiser and participant."""
        codes = self.services[0].create_appointment()
        return codes.organiser.replace("-", "")[:6], codes.participant.replace("-", "")[:6]

    async def connect(self, node: int) -> Client:
        url = f"http://127.0.0.1:{self.services[node].settings['signaling']['port']}"
        return Client(await self._session.ws_connect(f"{url}/ws", headers={"Origin": url}))

    async def ask(self, node: int, locator: str, **resume: str) -> tuple[Client, dict[str, Any]]:
        """Join and return the first answer, whatever it is."""
        client = await self.connect(node)
        await client.send(type="join", loc=locator, **resume)
        return client, await client.receive()

    async def join(self, node: int, locator: str, **resume: str) -> Client:
        """Join, again and again while the server says that it is not able to."""
        async with asyncio.timeout(PATIENCE):
            while True:
                client, answer = await self.ask(node, locator, **resume)
                if answer["type"] == "joined":
                    client.pid, client.token = answer["pid"], answer["resume"]
                    return client
                assert answer.get("code") == "overload" or answer["type"] == "drain", answer

    async def pair(self, nodes: tuple[int, int] = (0, 1)) -> "Pair":
        """Let both participants of a new appointment find and verify each other."""
        locators = self.plan()
        organiser = await self.join(nodes[0], locators[0])
        participant = await self.join(nodes[1], locators[1])
        await organiser.hear(type="peer", pid=participant.pid, present=True)
        await participant.hear(type="peer", pid=organiser.pid, present=True)
        await verify(organiser, participant)
        return Pair(locators, organiser, participant)

    def kill(self, node: int) -> None:
        process = self.services[node].process
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE)


class Pair(NamedTuple):
    locators: tuple[str, str]
    organiser: Client
    participant: Client


async def verify(organiser: Client, participant: Client) -> None:
    """Report `paired` both ways, and a blob each way that shows that both reports have been taken."""
    await organiser.send(type="paired", peer=participant.pid, ok=True)
    await organiser.send(type="relay", to=participant.pid, blob="a2V5")
    assert (await participant.hear(type="relay"))["from"] == organiser.pid
    await participant.send(type="paired", peer=organiser.pid, ok=True)
    await participant.send(type="relay", to=organiser.pid, blob="x" * 65_000)
    assert (await organiser.hear(type="relay"))["blob"] == "x" * 65_000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path) as server:
        yield server


@pytest.fixture
async def nodes(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Nodes]:
    with contextlib.ExitStack() as stack:
        services = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            settings = {
                "services": ["signaling"],
                "database_url": f"sqlite+aiosqlite:///{tmp_path / 'appointments.sqlite3'}",
                "secrets": {"locator_key": SECRET},
                "signaling": {"port": free_port(), "listen_addresses": ["127.0.0.1"], "redis_url": redis.url},
            }
            services.append(stack.enter_context(run_service(folder, settings)))
        async with ClientSession() as session:
            yield Nodes(services[0], services[1], redis, session)


async def test_participants_of_different_nodes_find_and_verify_each_other(nodes: Nodes) -> None:
    pair = await nodes.pair()
    for node in (0, 1):
        for locator in pair.locators:
            _, answer = await nodes.ask(node, locator)
            assert answer == {"type": "error", "code": "code_in_use"}
    await pair.participant.send(type="leave")
    assert await pair.participant.receive() == {"closed": 1000}
    await pair.organiser.hear(type="peer", pid=pair.participant.pid, present=False)


async def test_a_claim_is_resumed_at_another_node_and_the_old_socket_is_told(nodes: Nodes) -> None:
    pair = await nodes.pair()
    again = await nodes.join(0, pair.locators[1], resume=pair.participant.token)
    assert again.pid == pair.participant.pid
    await pair.participant.hear(type="error", code="code_in_use")
    assert await pair.participant.receive() == {"closed": 1008}
    await pair.organiser.hear(type="peer", pid=again.pid, present=True)


async def test_a_breach_of_the_protocol_ends_a_client_whose_room_is_elsewhere(nodes: Nodes) -> None:
    pair = await nodes.pair()
    await pair.participant.socket.send_bytes(b"hello")
    await pair.participant.hear(type="error", code="bad_message")
    assert await pair.participant.receive() == {"closed": 1008}
    await pair.organiser.hear(type="peer", pid=pair.participant.pid, present=False)


@pytest.mark.parametrize("killed", [0, 1], ids=["the home of the room dies", "the other node dies"])
async def test_both_meet_at_the_other_node_when_one_is_killed(nodes: Nodes, killed: int) -> None:
    pair = await nodes.pair()
    nodes.kill(killed)
    clients = (pair.organiser, pair.participant)
    assert await clients[killed].receive() == {"closed": 1006}
    if killed == 0:
        await pair.participant.hear(type="drain")
        assert await pair.participant.receive() == {"closed": 1001}
    survivor = 1 - killed
    back = [
        await nodes.join(survivor, locator, resume=client.token) if killed == 0 or client is clients[killed] else client
        for locator, client in zip(pair.locators, clients, strict=True)
    ]
    assert [client.pid for client in back] == [client.pid for client in clients]
    await back[0].hear(type="peer", pid=back[1].pid, present=True)
    await verify(back[0], back[1])
    for locator in pair.locators:
        _, answer = await nodes.ask(survivor, locator)
        assert answer == {"type": "error", "code": "code_in_use"}, "a confirmed claim is confirmed still"


async def test_a_node_that_stops_hands_its_rooms_over(nodes: Nodes) -> None:
    pair = await nodes.pair()
    nodes.services[0].terminate()
    for client in (pair.organiser, pair.participant):
        await client.hear(type="drain")
        assert await client.receive() == {"closed": 1001}
    back = [
        await nodes.join(1, locator, resume=client.token)
        for locator, client in zip(pair.locators, (pair.organiser, pair.participant), strict=True)
    ]
    assert [client.pid for client in back] == [pair.organiser.pid, pair.participant.pid]
    nodes.services[0].await_end()


async def test_calls_and_local_rooms_outlive_redis(nodes: Nodes) -> None:
    local, apart = await nodes.pair((0, 0)), await nodes.pair((0, 1))
    unknown = nodes.plan()[0]
    nodes.redis.stop()
    for service in nodes.services:
        service.await_that(lambda service=service: service.metrics()[f"{BUS}_connected"] == 0)  # type: ignore[misc]
        assert (service.admin_status("/readyz"), service.admin_status("/healthz")) == (503, 200)
        assert service.metrics()[f"{BUS}_losses_total"] == 1
    await local.organiser.send(type="relay", to=local.participant.pid, blob="bG9jYWw=")
    await local.participant.hear(type="relay", blob="bG9jYWw=")
    resumed = await nodes.join(0, local.locators[0], resume=local.organiser.token)
    assert resumed.pid == local.organiser.pid
    _, answer = await nodes.ask(1, unknown)
    assert answer["code"] == "overload", "nobody can know whether another node has the room"
    assert not apart.organiser.socket.closed
    nodes.redis.start()
    for service in nodes.services:
        service.await_that(service.is_ready)
    await apart.participant.hear(type="drain")
    back = await nodes.join(1, apart.locators[1], resume=apart.participant.token)
    assert back.pid == apart.participant.pid
    await verify(apart.organiser, back)
    await local.participant.send(type="relay", to=resumed.pid, blob="bG9jYWw=")
    await resumed.hear(type="relay", blob="bG9jYWw=")


async def test_redis_learns_no_locator_room_name_or_token(nodes: Nodes) -> None:
    pair = await nodes.pair()
    keys = nodes.redis.ask("KEYS *").decode()
    names = [line for line in keys.split("\r\n") if line.startswith("redconnect:")]
    assert sorted(name.rpartition(":")[0] for name in names) == ["redconnect:node"] * 2 + ["redconnect:room"]
    room = next(name for name in names if name.startswith("redconnect:room:"))
    stored = nodes.redis.ask(f"HGETALL {room}")
    for secret in (pair.organiser.token, pair.organiser.pid, *pair.locators):
        assert secret.encode() not in stored + keys.encode()
    assert b"claims" in stored
    for service in nodes.services:
        assert not [line for line in service.log.read_text().splitlines() if any(x in line for x in pair.locators)]

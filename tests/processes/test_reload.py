"""SIGHUP: what an operator changes takes effect, and nobody who is relayed notices."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from config.self_signed import new_private_key
from stun.attributes import ALTERNATE_SERVER, REQUESTED_TRANSPORT
from stun.registry import Method
from tests.support.ports import free_port
from tests.support.service import run_service
from tests.support.turn_client import TurnClient
from tests.support.wire_client import SECRET, Peer, Server, WireClient, run_relay

OTHER_SECRET = "another secret of thirty-two bytes, or even more"
THIRD_SECRET = "the third secret of thirty-two bytes, for the realm"
CHANNEL = 0x4000
OPEN = {"allow": ["127.0.0.1/32"]}  # what every realm must say of an own address, if any is to reach it
WORKERS = [1, 2]


class Line:
    """A running allocation: what is sent through it arrives, in both directions, or the test fails."""

    def __init__(self, client: WireClient, peer: Peer) -> None:
        self.client = client
        self.peer = peer
        self.relayed = client.relayed()
        self._sent = 0
        assert client.bind(CHANNEL, peer.address).code == 0

    def carries(self) -> bool:
        self._sent += 1
        text = b"%d" % self._sent
        self.client.send_through(CHANNEL, text)
        assert self.peer.receive() == (text, self.relayed)
        self.peer.send(text, self.relayed)
        return self.client.receive_channel_data() == (CHANNEL, text)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


@pytest.fixture(params=WORKERS, ids=lambda count: f"{count} workers")
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with run_relay(tmp_path, workers=request.param) as server:
        yield server


def line(stack: contextlib.ExitStack, relay: Server, transport: str = "udp") -> Line:
    client = stack.enter_context(contextlib.closing(relay.client(transport)))
    return Line(client, stack.enter_context(contextlib.closing(Peer("127.0.0.1"))))


def code_of(client: WireClient) -> int:
    """What an Allocate of this client is answered with; it is given back at once."""
    with contextlib.closing(client):
        return client.allocate().code


def quota(**changes: int) -> dict[str, int]:
    return {"challenges_per_second": 100_000, "challenge_burst": 100_000, **changes}


def test_a_reload_of_everything_loses_no_packet_of_a_running_allocation(
    relay: Server, stack: contextlib.ExitStack
) -> None:
    lines = [line(stack, relay, transport) for transport in ("udp", "udp", "udp", "tcp", "tls")]
    changes = {
        "secrets": {"new": OTHER_SECRET},
        "realms": {"clinic": {"ports": [3479], "users": {"bob": "builder"}, "peers": OPEN}},
        "quota": quota(allocations_per_user=3, bytes_per_second=0),
        "strict_channels": True,
        "peers": {"allow": ["127.0.0.1/32"], "deny": ["198.51.100.0/24"]},
        "alternate_servers": ["198.41.0.9:3478"],
        "default_lifetime_seconds": 900,
    }
    service = relay.service
    assert all(each.carries() for each in lines)
    service.configure({"relay": changes, "log": {"level": "debug"}})
    done = 'redconnect_reloads_total{result="success"}'
    service.hang_up()
    service.await_that(lambda: all(each.carries() for each in lines) and service.metrics()[done] == 1)
    for each in lines:
        for _ in range(50):
            assert each.carries()
        assert each.client.refresh().code == 0
    assert service.metrics()["redconnect_relay_draining"] == 0


def test_each_change_holds_from_the_reload_on(relay: Server, stack: contextlib.ExitStack) -> None:
    service = relay.service
    old = line(stack, relay)
    static = TurnClient("carol", "of the test")
    assert code_of(relay.client_of(static)) == 401
    assert code_of(relay.client_with(OTHER_SECRET)) == 401
    assert old.client.bind(0x5001, old.peer.address._replace(port=9)).code == 0
    assert old.client.permit(old.peer.address._replace(ip=bytes((127, 0, 0, 9)))).code == 403
    service.reload(
        {
            "relay": {
                "users": {"carol": "of the test"},
                "secrets": {"new": OTHER_SECRET},
                "strict_channels": True,
                "peers": {"allow": ["127.0.0.1/32", "127.0.0.9/32"]},
                "quota": quota(allocations_per_user=1),
            }
        }
    )
    assert code_of(relay.client_of(TurnClient("carol", "of the test"))) == 0
    assert code_of(relay.client_with(OTHER_SECRET)) == 0
    assert old.client.bind(0x5002, old.peer.address._replace(port=10)).code == 400
    assert old.client.permit(old.peer.address._replace(ip=bytes((127, 0, 0, 9)))).code == 0
    second = relay.client_of(TurnClient(old.client.turn.username, old.client.turn.password))
    assert code_of(second) == 486
    assert old.carries()
    service.reload({"relay": {"users": {}, "secrets": {}}})
    assert code_of(relay.client_of(TurnClient("carol", "of the test"))) == 401
    assert code_of(relay.client_with(OTHER_SECRET)) == 401
    assert old.carries()


def test_a_new_realm_is_offered_where_it_belongs(tmp_path: Path) -> None:
    other_port = free_port()
    with run_relay(tmp_path) as relay:
        relay.service.stop()
    relay.ports["udp2"] = other_port
    with run_relay(tmp_path, udp_ports=[relay.ports["udp"], other_port]) as started:
        ports = {**started.ports, "udp": other_port}
        moved = started._replace(ports=ports)
        with contextlib.closing(moved.client()) as client:
            client.get_challenged()
            assert client.turn.realm == "example.org"
        realm = {"ports": [other_port], "secrets": {"clinic": THIRD_SECRET}, "allocations_per_user": 1}
        started.service.reload({"relay": {"realms": {"clinic": realm}}})
        with contextlib.closing(moved.client_with(THIRD_SECRET)) as client:
            assert client.allocate().code == 0
            assert client.turn.realm == "clinic"
        assert code_of(moved.client()) == 401
        assert code_of(started._replace(ports={**ports, "udp": relay.ports["udp"]}).client()) == 0


def test_the_alternates_after_a_reload_are_the_ones_that_are_told(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    with run_relay(tmp_path, drain_seconds=30) as relay:
        old = line(stack, relay)
        relay.service.reload({"relay": {"alternate_servers": ["198.41.0.9:3478"]}})
        relay.service.terminate()
        relay.service.await_that(lambda: not relay.service.is_ready())
        with contextlib.closing(relay.client()) as client:
            response = client.allocate()
            assert response.code == 300
            assert str(response.get(ALTERNATE_SERVER)) == "198.41.0.9:3478"
        relay.service.reload({"relay": {"alternate_servers": ["198.41.0.10:3478"]}})
        with contextlib.closing(relay.client()) as client:
            assert str(client.allocate().get(ALTERNATE_SERVER)) == "198.41.0.10:3478"
        assert old.carries()
        assert not relay.service.is_ready()
        assert old.client.refresh(0).code == 0
        relay.service.await_end()


def test_the_level_of_the_log_changes(relay: Server) -> None:
    service = relay.service
    assert "allocation begins" in logged_by_an_allocation(relay)
    service.reload({"log": {"level": "warning"}})
    assert "allocation begins" not in logged_by_an_allocation(relay)
    service.reload({"log": {"level": "info"}})
    assert "allocation begins" in logged_by_an_allocation(relay)


def logged_by_an_allocation(relay: Server) -> str:
    start = len(relay.service.log.read_text())
    with contextlib.closing(relay.client()) as client:
        assert client.allocate().code == client.refresh(0).code == 0
    return relay.service.log.read_text()[start:]


def test_differences_are_logged_key_by_key_and_secrets_only_as_changed(relay: Server) -> None:
    logged = relay.service.reload(
        {
            "relay": {
                "strict_channels": True,
                "users": {"carol": "hidden-password"},
                "secrets": {"new": OTHER_SECRET},
                "realms": {"clinic": {"ports": [9], "users": {"bob": "hidden-password"}, "peers": OPEN}},
                "port_max": 60_000,
                "peers": {"allow": ["127.0.0.1/32"]},
            }
        }
    )
    lines = [text.partition("reload: ")[2] for text in logged.splitlines() if "reload: " in text]
    assert lines == [
        "relay.port_max: 65535 -> 60000 (after a restart)",
        "relay.users: changed",
        "relay.secrets: changed",
        "relay.realms: changed",
        "relay.strict_channels: false -> true",
        'relay.peers.allow: ["127.0.0.1", "127.0.0.3", "::1"] -> ["127.0.0.1"]',
    ]
    assert "reloaded: 6 keys differ" in logged
    assert "hidden-password" not in logged
    assert OTHER_SECRET not in logged


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("relay: {relm: x, port_min: 70000}\nlog: {level: loud}\n", ["relay.relm", "relay.port_min", "log.level"]),
        ("relay: {workers: 2, mobility: true, tcp_allocations: true}\n", ["mobility needs", "tcp_allocations needs"]),
        ("relay: [", ["redconnect.yaml"]),
    ],
)
def test_a_wrong_file_changes_nothing_and_every_mistake_is_one_line(
    relay: Server, stack: contextlib.ExitStack, text: str, told: list[str]
) -> None:
    service = relay.service
    old = line(stack, relay)
    good = service.config.read_text()
    service.config.write_text(text)
    logged = service.reload(result="failure")
    lines = [each for each in logged.splitlines() if "not reloaded" in each]
    assert len(lines) == len(told)
    for key in told:
        assert sum(key in each for each in lines) == 1, logged
    assert "Traceback" not in logged
    assert old.carries()
    assert old.client.bind(0x5001, old.peer.address._replace(port=9)).code == 0
    assert code_of(relay.client()) == 0
    assert service.metrics()['redconnect_reloads_total{result="success"}'] == 0
    service.config.write_text(good)
    assert "reloaded: 0 keys differ" in service.reload()


@pytest.mark.parametrize("unfit", ["missing", "mismatch"])
def test_settings_with_an_unfit_certificate_change_nothing_else_either(
    relay: Server, tmp_path: Path, unfit: str
) -> None:
    key = tmp_path / "key.pem"
    state = Path(relay.service.settings["state_dir"])
    certificate = state / "certificate.pem" if unfit == "mismatch" else tmp_path / "none.pem"
    if unfit == "mismatch":
        key.write_bytes(new_private_key())
    logged = relay.service.reload(
        {
            "tls": {"certificate_file": str(certificate), "key_file": str(key)},
            "relay": {"users": {"carol": "of the test"}},
        },
        result="failure",
    )
    assert logged.count("not reloaded") == 1
    assert "Traceback" not in logged
    assert code_of(relay.client_of(TurnClient("carol", "of the test"))) == 401
    assert code_of(relay.client("tls")) == 0


def test_of_many_hangups_at_once_the_last_file_counts(relay: Server, stack: contextlib.ExitStack) -> None:
    service = relay.service
    old = line(stack, relay)
    for number in range(20):
        service.configure({"relay": {"users": {f"user{number}": "of the test"}}})
        service.hang_up()
    last = TurnClient("user19", "of the test")

    def is_known() -> bool:
        assert old.carries()
        return code_of(relay.client_of(TurnClient(last.username, last.password))) == 0

    service.await_that(is_known)
    assert code_of(relay.client_of(TurnClient("user18", "of the test"))) == 401
    assert service.metrics()['redconnect_reloads_total{result="failure"}'] == 0


def test_a_hangup_while_it_drains_changes_settings_and_ends_nothing(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    with run_relay(tmp_path, drain_seconds=60) as relay:
        old = line(stack, relay)
        relay.service.terminate()
        relay.service.await_that(lambda: not relay.service.is_ready())
        relay.service.reload({"relay": {"strict_channels": True}})
        assert old.client.bind(0x5001, old.peer.address._replace(port=9)).code == 400
        assert old.carries()
        assert code_of(relay.client()) == 508
        assert old.client.refresh(0).code == 0
        relay.service.await_end()


def test_the_instant_of_the_last_good_reload_is_a_metric(relay: Server) -> None:
    name = "redconnect_last_successful_reload_timestamp_seconds"
    first = relay.service.metrics()[name]
    relay.service.config.write_text("x: [")
    relay.service.reload(result="failure")
    assert relay.service.metrics()[name] == first
    relay.service.reload({})
    assert relay.service.metrics()[name] > first


def test_a_secret_is_changed_step_by_step_and_nobody_is_turned_away(relay: Server) -> None:
    """The steps of docs/turn.md; whoever asks the operator's command for a credential gets in at each of them."""
    service = relay.service
    name = 'redconnect_relay_allocations_authenticated_total{{secret="{}"}}'

    def issued() -> TurnClient:
        told = json.loads(service.command("credential", "--json").stdout)
        return TurnClient(told["username"], told["password"])

    def accepted_with(secret: str) -> bool:
        """Whether the credential issued right now is accepted, and counted for this secret."""
        before = service.metrics().get(name.format(secret), 0)
        return code_of(relay.client_of(issued())) == 0 and service.metrics()[name.format(secret)] == before + 1

    old = issued()
    assert accepted_with("turn_secret")
    service.reload({"relay": {"secrets": {"next": OTHER_SECRET}}})
    assert accepted_with("turn_secret")
    assert code_of(relay.client_with(OTHER_SECRET)) == 0
    service.reload({"secrets": {"turn_secret": OTHER_SECRET}, "relay": {"secrets": {"old": SECRET}}})
    assert accepted_with("turn_secret")
    assert code_of(relay.client_of(TurnClient(old.username, old.password))) == 0
    assert service.metrics()[name.format("old")] == 1
    service.reload({"relay": {"secrets": {}}})
    assert accepted_with("turn_secret")
    assert code_of(relay.client_of(TurnClient(old.username, old.password))) == 401


def test_a_reload_does_not_let_in_again_who_asked_too_often(tmp_path: Path) -> None:
    slow = {"challenges_per_second": 1, "challenge_burst": 3}
    dropped = 'redconnect_relay_messages_dropped_total{reason="rate_limited"}'
    with run_relay(tmp_path, quota=slow) as relay, contextlib.closing(relay.client()) as client:

        def refused() -> float:
            """How many of ten more strangers are not answered; at 1 a second that may be one or two less."""
            before = relay.service.metrics().get(dropped, 0)
            for _ in range(10):
                client.wire.send(client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)))
            client.exchange(client.binding())
            return relay.service.metrics()[dropped] - before

        assert refused() >= 6
        relay.service.reload({"log": {"level": "debug"}})
        assert refused() >= 8
        relay.service.reload({"relay": {"quota": {**slow, "challenge_burst": 500}}})
        assert refused() == 0


# Signaling


class Pages:
    """The pages of a service, as a browser's WebSocket sees them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, **settings: Any) -> None:  # noqa: ANN401
        self.port = free_port()
        self.relay_ports = {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]}
        self.service = stack.enter_context(
            run_service(folder, {"signaling": {"port": self.port}, "relay": self.relay_ports, **settings})
        )

    def join(self, code: str) -> dict[str, Any]:
        """The first message after a join."""

        async def ask() -> dict[str, Any]:
            origin = f"http://localhost:{self.port}"
            async with ClientSession() as session, session.ws_connect(f"{origin}/ws", origin=origin) as socket:
                await socket.send_json({"type": "join", "loc": code.replace("-", "")[:6]})
                answer: dict[str, Any] = await socket.receive_json(timeout=5)
                return answer

        with ThreadPoolExecutor(max_workers=1) as elsewhere:  # Playwright's loop may run in this thread
            return elsewhere.submit(asyncio.run, ask()).result()


def test_the_entry_window_and_the_limit_of_unknown_codes_are_those_of_the_reload(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    pages = Pages(tmp_path, stack)
    start = datetime.now(UTC) + timedelta(hours=10)
    codes = pages.service.create_appointment(start.isoformat(timespec="minutes"))
    assert pages.join(codes.organiser)["code"] == "too_early"
    window = {"entry_opens_minutes": 1440}
    pages.service.reload({"signaling": window})
    assert pages.join(codes.organiser)["type"] == "joined"
    pages.service.reload({"signaling": {"unknown_codes_per_minute": 2}})
    assert [pages.join("ZZZZZZ")["code"] for _ in range(3)] == ["unknown_code", "unknown_code", "rate_limited"]
    pages.service.reload({"log": {"level": "debug"}})
    assert pages.join("ZZZZZZ")["code"] == "rate_limited"
    pages.service.reload({"signaling": {"unknown_codes_per_minute": 1000}})
    assert pages.join("ZZZZZZ")["code"] == "unknown_code"


@pytest.mark.long
def test_ports_that_need_a_restart_are_not_told_to_clients_before_it(
    tmp_path: Path, stack: contextlib.ExitStack
) -> None:
    pages = Pages(tmp_path, stack)
    codes = pages.service.create_appointment()
    before = [server["urls"] for server in pages.join(codes.organiser)["ice"]]
    logged = pages.service.reload({"relay": {**pages.relay_ports, "udp_ports": [9], "tls_ports": [10]}})
    assert logged.count("(after a restart)") == 2
    after = [server["urls"] for server in pages.join(codes.organiser)["ice"]]
    assert after == before
    assert f":{pages.relay_ports['udp_ports'][0]}" in json.dumps(after)

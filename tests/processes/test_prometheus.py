"""A real Prometheus scrapes running services: every panel of deploy/grafana and every rule has its data."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from aiohttp import ClientSession

from tests.support.grafana_boards import BOARDS, path_of
from tests.support.ports import free_port, free_ports
from tests.support.prometheus_server import FOLDER, PrometheusServer, run_prometheus
from tests.support.redis_server import run_redis
from tests.support.service import Service, run_service
from tests.support.turn_client import TurnClient
from tests.support.wire_client import REALM, SECRET, Peer, Server

PATIENCE = 90.0  # seconds, within which the last query has its data; nothing waits them out
WORKERS = 2
# No conference runs here, and the kernel of a container may track no connections.
NEEDS_A_CONFERENCE = ("instance:redconnect_sfu_loss_", "[5m]) > 10)", "redconnect_sfu_sessions_failed_total")
NEEDS_CONNTRACK = ("redconnect_host_conntrack_",)
NEEDS_AN_OUTAGE = ("ALERTS{", '"500|508"', 'cause="draining"')


class Query(NamedTuple):
    """What must have data, and where it stands."""

    name: str
    expr: str

    @property
    def may_be_empty(self) -> bool:
        return any(word in self.expr for word in (*NEEDS_A_CONFERENCE, *NEEDS_CONNTRACK, *NEEDS_AN_OUTAGE))


class Scene(NamedTuple):
    """What runs."""

    prometheus: PrometheusServer
    relay: Server
    node: Service


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folders = [tmp_path_factory.mktemp(name) for name in ("all", "node", "redis", "prometheus")]
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(run_everything(folders[0]))
        redis = stack.enter_context(run_redis(folders[2]))
        settings = {
            "services": ["signaling"],
            "signaling": {"port": free_port(), "listen_addresses": ["127.0.0.1"], "redis_url": redis.url},
        }
        node = stack.enter_context(run_service(folders[1], settings))
        targets = [f"127.0.0.1:{service.settings['admin']['port']}" for service in (relay.service, node)]
        yield Scene(stack.enter_context(run_prometheus(folders[3], targets)), relay, node)


@contextlib.contextmanager
def run_everything(folder: Path) -> Iterator[Server]:
    """Relay, signaling and SFU in one service, with workers."""
    ports = {transport: free_port() for transport in ("udp", "tcp", "tls", "dtls")}
    settings = {
        "services": ["relay", "signaling", "sfu"],
        "secrets": {"turn_secret": SECRET},
        "relay": {
            "workers": WORKERS,
            "realm": REALM,
            "listen_addresses": ["127.0.0.1"],
            "relay_addresses": ["127.0.0.1"],
            **{f"{transport}_ports": [port] for transport, port in ports.items()},
            "quota": {"allocations_per_user": 1, "challenges_per_second": 100_000, "challenge_burst": 100_000},
            "peers": {"allow": ["127.0.0.1/32"]},
        },
        "signaling": {"port": free_port(), "listen_addresses": ["127.0.0.1"]},
        "sfu": {"workers": WORKERS, "udp_port": free_ports(WORKERS)[0], "listen_addresses": ["127.0.0.1"]},
    }
    with run_service(folder, settings) as service:
        yield Server(service, ports)


def live_through_a_day(relay: Server) -> None:
    """Let happen what most graphs tell of: media over every transport, refusals of each kind, joins."""
    with contextlib.closing(Peer("127.0.0.1")) as peer:
        for transport in ("udp", "tcp", "tls", "dtls"):
            with contextlib.closing(relay.client(transport)) as client:
                relayed = client.relayed()
                assert client.permit(peer.address).code == 0
                client.send_to(peer.address, b"there")
                peer.receive()
                peer.send(b"back", relayed)
                client.receive_indication()
                assert client.permit(peer.address._replace(ip=bytes((10, 0, 0, 1)))).code == 403
                assert client.refresh(0).code == 0
    user = relay.new_user()
    again = TurnClient(user.username, user.password)
    with contextlib.closing(relay.client_of(user)) as first, contextlib.closing(relay.client_of(again)) as second:
        assert first.allocate().code == 0
        assert second.allocate().code == 486
        first.wire.send(b"\x00\x01nothing that parses as a message")
        assert first.refresh(0).code == 0
    with contextlib.closing(relay.client_of(TurnClient("nobody", "of the test"))) as stranger:
        assert stranger.allocate().code == 401
    codes = relay.service.create_appointment()
    asyncio.run(_join(relay.service, codes.organiser.replace("-", "")[:6]))


async def _join(service: Service, locator: str) -> None:
    url = f"http://127.0.0.1:{service.settings['signaling']['port']}"
    async with ClientSession() as session, session.ws_connect(f"{url}/ws", headers={"Origin": url}) as socket:
        await socket.send_json({"type": "join", "loc": locator})
        assert json.loads((await socket.receive(timeout=20)).data)["type"] == "joined"


def queries_of_panels() -> Iterator[Query]:
    for board in BOARDS:
        for panel in json.loads(path_of(board).read_text())["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
                yield Query(f"{board.name}: {panel['title']} {target['refId']}", expr)


def queries_of_rules() -> Iterator[Query]:
    """Of a recording rule the whole; of an alert, which has nothing to say when all is well, each of its selectors."""
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                yield Query(rule["record"], rule["expr"])
                continue
            for selector in re.findall(r"\b[a-z_:0-9]+\{[^}]*\}|\b(?:instance:)?redconnect_[a-z_:0-9]+", rule["expr"]):
                yield Query(f"{rule['alert']}: {selector}", selector)


def empty_ones(prometheus: PrometheusServer, queries: list[Query]) -> list[Query]:
    return [query for query in queries if not prometheus.query(query.expr)]


def test_every_panel_and_every_rule_has_its_data(scene: Scene) -> None:
    needed = [query for query in (*queries_of_panels(), *queries_of_rules()) if not query.may_be_empty]
    assert len(needed) > 100
    deadline = time.monotonic() + PATIENCE
    live_through_a_day(scene.relay)
    while (needed := empty_ones(scene.prometheus, needed)) and time.monotonic() < deadline:
        live_through_a_day(scene.relay)
    assert needed == []


def test_what_may_be_empty_is_refused_by_nobody(scene: Scene) -> None:
    for query in (*queries_of_panels(), *queries_of_rules()):
        if query.may_be_empty:
            scene.prometheus.query(query.expr)


def test_no_rule_fails_as_it_is_evaluated(scene: Scene) -> None:
    rules = scene.prometheus.rules()
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] == "err"} == {}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_a_target_that_has_gone_is_seen(scene: Scene) -> None:
    scene.node.terminate()
    scene.node.await_end()
    deadline = time.monotonic() + PATIENCE
    while not scene.prometheus.query('up{job="redconnect"} == 0'):
        assert time.monotonic() < deadline

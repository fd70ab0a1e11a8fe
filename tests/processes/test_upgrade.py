"""An upgrade of two nodes behind HAProxy, as deploy/README.md tells it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from stun.registry import Method
from tests.support.ports import free_port
from tests.support.reverse_proxy import PROXY, Front, behind_haproxy
from tests.support.wire_client import Peer, Server, run_relay

pytestmark = pytest.mark.long

DRAIN_SECONDS = 600  # whoever waits for this deadline fails the test
NEWCOMERS = 4


class Farm(NamedTuple):
    """Two nodes and what stands in front of them."""

    nodes: tuple[Server, Server]
    front: Front

    def by_allocations(self) -> tuple[Server, Server]:
        """The node where somebody is relayed, and the other one."""
        first, second = self.nodes
        return (first, second) if allocations(first) else (second, first)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            signaling = {"port": free_port(), "listen_addresses": [PROXY], "proxies": [f"{PROXY}/32"]}
            node = run_relay(
                folder,
                services=("relay", "signaling"),
                signaling=signaling,
                proxy_sources=[f"{PROXY}/32"],
                drain_seconds=DRAIN_SECONDS,
            )
            nodes.append(stack.enter_context(node))
        first, second = nodes
        yield Farm((first, second), stack.enter_context(behind_haproxy(first, tmp_path, second)))


def allocations(node: Server, name: str = "redconnect_relay_allocations") -> float:
    """The sum of a metric over its labels."""
    return sum(value for sample, value in node.service.metrics().items() if sample.startswith(f"{name}{{"))


def served_by(node: Server) -> float:
    return allocations(node, "redconnect_relay_allocations_created_total")


def test_a_node_is_emptied_while_its_calls_go_on_and_the_other_takes_who_comes(farm: Farm) -> None:
    with contextlib.closing(farm.front.relay.client("tls")) as client, contextlib.closing(Peer(PROXY)) as peer:
        relayed = client.relayed()
        assert client.permit(peer.address).code == 0
        old, new = farm.by_allocations()
        old.service.terminate()
        old.service.await_that(lambda: old.service.admin_status("/readyz") == 503)
        client.send_to(peer.address, b"there")
        assert peer.receive()[0] == b"there"
        peer.send(b"back", relayed)
        assert client.receive_indication().method == Method.DATA
        old.service.await_that(lambda: is_open_to_newcomers(farm.front.relay), seconds=60)
        before = served_by(old), served_by(new)
        assert is_open_to_newcomers(farm.front.relay)
        assert (served_by(old), served_by(new)) == (before[0], before[1] + NEWCOMERS)
        assert client.refresh(0).code == 0
        old.service.await_end()


def is_open_to_newcomers(front: Server) -> bool:
    """Whether all of some who come at once are relayed: more than the node that drains has, so HAProxy would choose it.

    HAProxy has to ask twice before it believes that a node drains; until then some of them are refused there.
    """
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(front.client("tls"))) for _ in range(NEWCOMERS)]
        return all(client.allocate().code == 0 for client in clients)

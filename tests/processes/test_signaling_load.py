"""The service under the benchmark's own load, small: the tools tell the truth, and a seat stays cheap."""

from collections.abc import Iterator

import pytest
from aiohttp import ClientSession

from tests.bench import seats
from tests.bench.signaling_server import SignalingServer, run_signaling
from tests.bench.talks import Target, run_echo, run_locust

pytestmark = pytest.mark.long

TALKS = 5
USERS = 2
BLOBS = 4  # of each side


@pytest.fixture(scope="module")
def server() -> Iterator[SignalingServer]:
    with run_signaling(2 * USERS) as started:
        yield started


def talkers(server: SignalingServer) -> Target:
    return Target("redconnect", server.pid, server.url, "Talker")


def test_locust_counts_what_the_service_counts(server: SignalingServer) -> None:
    before = server.service.metrics()
    counts = run_locust(talkers(server), server.plan(TALKS), BLOBS, USERS)
    after = server.service.metrics()

    def grown(name: str) -> float:
        key = f"redconnect_signaling_{name}"
        return after[key] - before[key]

    assert (counts.joins, counts.relayed) == (2 * TALKS, 2 * TALKS * BLOBS)
    assert grown('joins_total{outcome="joined"}') == counts.joins
    assert grown("relayed_blobs_total") == counts.relayed
    assert grown('pairings_total{result="confirmed"}') == TALKS
    assert grown('claims_ended_total{departure="left"}') == counts.joins
    assert after["redconnect_signaling_clients"] == 0


def test_a_seat_that_is_refused_ends_the_measurement(server: SignalingServer) -> None:
    known = server.plan(1)[0]
    with pytest.raises(RuntimeError, match="unknown_code"):
        run_locust(talkers(server), [known._replace(organiser="000000")], BLOBS, USERS)


def test_the_floor_is_measured_with_as_many_sockets_and_messages(server: SignalingServer) -> None:
    with run_echo() as echo:
        counts = run_locust(echo, server.plan(TALKS), BLOBS, USERS)
    assert (counts.joins, counts.relayed) == (2 * TALKS, 2 * TALKS * BLOBS)


async def test_no_socket_has_a_compressor_though_the_browser_offers_one(server: SignalingServer) -> None:
    async with (
        ClientSession() as session,
        session.ws_connect(f"{server.url}/ws", headers={"Origin": server.url}, compress=15) as socket,
    ):
        assert socket.compress == 0


@pytest.mark.parametrize("talking", [False, True], ids=["waiting", "in a talk"])
async def test_a_seat_costs_less_memory_than_it_may(talking: bool) -> None:  # noqa: FBT001
    crowd = 400
    empty, full = await seats.measure(talking=talking, steps=(crowd,))
    each = (full.rss - empty.rss) / crowd
    assert 0 < each <= seats.BAR_KIB

"""What loopback cannot show: joined bursts from a wire, DF, and routers whose next link is too small."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.datapath import Drop
from relay.io.datapath.plain import PlainDataPath
from relay.io.poller import Poller
from stun.attributes import DATA, ICMP, IcmpError
from stun.demux import encode_channel_data
from tests.support.lab import Lab, open_lab
from tests.support.plane import NUMBER, Client, Clients, Clock, transport
from tests.support.udp_endpoint import UdpEndpoint

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces")

SMALL_MTU = 1300
BIG, FITTING = bytes(1400), bytes(1000)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The relay lives at alice's, the peer at bob's, and the router between them has a small link to bob."""
    with open_lab(routed=True) as lab:
        lab.run(lab.server, "ip", "link", "set", lab.bob_link, "mtu", str(SMALL_MTU))
        lab.run(lab.server, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        # As on a wire: checksums are complete, and the receiving side lags behind, so that there is what to join.
        for namespace, device in ((lab.bob, f"{lab.bob}0"), (lab.server, lab.alice_link)):
            lab.run(namespace, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off")
        for namespace, device in ((lab.server, lab.bob_link), (lab.alice, f"{lab.alice}0")):
            lab.run(namespace, "ethtool", "-K", device, "gro", "on")
            lab.run(namespace, "sh", "-c", f"echo 1 > /sys/class/net/{device}/threaded")
        yield lab


class Site:
    """A relayed client at alice's and a peer at bob's."""

    def __init__(self, lab: Lab, *, v6: bool) -> None:
        host = "fd91:1::2" if v6 else lab.alice_ip
        self.poller = Poller(asyncio.get_running_loop())
        self.clients = Clients()
        self.plane = PlainDataPath(self.poller, frozenset(), self.clients)
        with lab.inside(lab.bob):
            self.peer = UdpEndpoint(lab.bob_ipv6 if v6 else lab.bob_ip)
        with lab.inside(lab.alice):
            clock = Clock()
            clock.now = asyncio.get_running_loop().time()
            self.client = Client(self.plane, self.clients, clock, host, 5000)
        self.client.bind(self.peer.address)

    def send(self, data: bytes, *, dont_fragment: bool) -> None:
        self.plane.send_to_peer(self.client.handle, data, transport(self.peer.address), dont_fragment=dont_fragment)

    def close(self) -> None:
        self.plane.close_relay(self.client.handle)
        self.peer.close()
        self.poller.close()

    async def next_icmp(self) -> IcmpError:
        """What the next Data indication tells, which has no DATA."""
        message = await self.client.receive_message()
        assert message.get(DATA) is None
        told = message.get(ICMP)
        assert told is not None
        return told


@pytest.fixture(params=[False, True], ids=["IPv4", "IPv6"])
async def site(request: pytest.FixtureRequest, lab: Lab) -> AsyncIterator[Site]:
    for version in ("-4", "-6"):
        for namespace in (lab.alice, lab.server, lab.bob):
            lab.run(namespace, "ip", version, "route", "flush", "cache")
    site = Site(lab, v6=request.param)
    yield site
    site.close()


def too_big(site: Site) -> IcmpError:
    v6 = ":" in site.peer.address[0]
    return IcmpError(*((2, 0) if v6 else (3, 4)), SMALL_MTU.to_bytes(4))


async def test_a_datagram_that_must_not_be_fragmented_is_refused_on_the_way_and_the_client_is_told(
    site: Site,
) -> None:
    for _ in range(2):  # also when the path is known by now
        site.send(BIG, dont_fragment=True)
        assert await site.next_icmp() == too_big(site)
    site.send(FITTING, dont_fragment=True)
    assert await site.peer.receive() == FITTING
    assert site.peer.is_silent


async def test_what_may_be_fragmented_arrives_also_after_something_that_might_not(site: Site) -> None:
    site.send(BIG, dont_fragment=True)
    assert await site.next_icmp() == too_big(site)
    site.send(BIG, dont_fragment=False)
    assert await site.peer.receive() == BIG
    site.client.send_channel(BIG)
    assert await site.peer.receive() == BIG


async def test_what_is_too_big_for_the_own_link_is_dropped_and_counted_without_a_report(site: Site) -> None:
    site.send(bytes(1600), dont_fragment=True)  # the kernel queues an error of its own
    assert site.plane.drops[Drop.SEND_FAILED] == 1
    site.peer.send(b"mark", site.client.address)
    assert await site.client.receive_channel() == (NUMBER, b"mark")


async def test_without_dont_fragment_the_first_datagram_arrives_over_ipv4(lab: Lab) -> None:
    site = Site(lab, v6=False)
    site.client.send_channel(BIG)  # DF would be set by default
    assert await site.peer.receive() == BIG
    site.close()


async def test_a_run_too_large_for_the_link_is_sent_singly_and_remembered(lab: Lab) -> None:
    site = Site(lab, v6=False)
    payloads = [bytes([at]) * 1480 for at in range(5)]  # with headers more than the 1500 bytes of alice's link
    frames = [encode_channel_data(NUMBER, payload) for payload in payloads]
    for _ in range(2):
        assert all(site.client.send(*frames))
        assert [await site.peer.receive() for _ in payloads] == payloads
    relay = site.plane._relays[site.client.handle]
    assert relay.client.channels[NUMBER].max_segment == 1479
    site.close()


async def test_a_burst_from_the_wire_reaches_the_client_in_bursts(lab: Lab) -> None:
    site = Site(lab, v6=False)
    payloads = [bytes([at]) * 500 for at in range(60)]
    for _ in range(20):  # until the kernel has been asked to join, and has joined something
        for payload in payloads:
            site.peer.send(payload, site.client.address)
        received = [await site.client.receive_channel() for _ in payloads]
        assert received == [(NUMBER, payload) for payload in payloads]
        if site.client.link.bursts:
            break
    assert site.client.link.bursts
    assert all(2 <= len(burst) <= 64 for burst in site.client.link.bursts)
    site.close()

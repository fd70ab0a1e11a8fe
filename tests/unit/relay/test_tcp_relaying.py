"""TCP allocations on the whole control plane, side by side with those of UDP."""

from relay.five_tuple import Transport
from relay.tcp_allocation import Dial
from stun.attributes import LIFETIME, REQUESTED_TRANSPORT, XOR_PEER_ADDRESS
from stun.registry import Method
from tests.support.relay_harness import RelayHarness, peer

TCP = (REQUESTED_TRANSPORT, 6)


def test_the_end_of_a_udp_allocation_leaves_a_tcp_allocation_with_the_same_handle_alone() -> None:
    harness = RelayHarness(tcp_allocations=True)
    assert harness.tcp is not None
    stream, datagram = harness.client(transport=Transport.TCP), harness.client("bob")
    assert stream.ask(Method.ALLOCATE, TCP).code == 0
    assert datagram.allocate().code == 0
    assert list(harness.plane.relays) == list(harness.tcp_plane.relays)  # each plane counts for itself
    request = stream.turn.build(Method.CONNECT, (XOR_PEER_ADDRESS, peer("8.8.8.8")))
    assert stream.send(request) == []  # the answer follows when the peer has accepted
    assert isinstance(harness.tcp.poll_command(), Dial)
    assert datagram.ask(Method.REFRESH, (LIFETIME, 0)).code == 0
    assert harness.tcp.poll_command() is None
    assert stream.send(stream.turn.build(Method.CONNECT, (XOR_PEER_ADDRESS, peer("9.9.9.9")))) == []
    assert isinstance(harness.tcp.poll_command(), Dial)

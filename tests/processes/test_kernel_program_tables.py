"""The kernel program by itself: counters, limits, and the table of flows."""

import os
import signal
from typing import Final

import pytest

from relay.datapath import Drop, Limits, Traffic
from relay.io.datapath.bpf import layout
from relay.io.datapath.bpf.program import KernelProgram, Kind, OffloadFailed, Onward, TableFull, Unroutable, Way
from tests.support.frames import Datagram, decode_frame, encode_frame
from tests.support.program_bench import (
    FAMILIES,
    MOST_FLOWS,
    NUMBER,
    OTHER_NUMBER,
    OTHER_SLOT,
    SLOT,
    Addresses,
    Bench,
    address,
    channel_data,
    later,
    send_indication,
)
from tests.support.program_run import Verdict, run

PACKETS_WHILE_FLOWS_CHANGE: Final = 40_000  # before values were proved, about one of them took a wrong way


def test_packets_and_bytes_of_data_are_counted_by_direction(bench: Bench, who: Addresses) -> None:
    bench.call(who)
    bench.relays(Datagram(who.client, who.listener, channel_data(bytes(10), padding=b"\0\0")))
    bench.relays(Datagram(who.client, who.listener, send_indication(bytes(21), who.peer)))
    bench.relays(Datagram(who.peer, who.relayed, bytes(32)))
    assert bench.program.traffic(SLOT) == Traffic(2, 31, 1, 32)
    assert bench.program.traffic(OTHER_SLOT) == Traffic(0, 0, 0, 0)
    bench.program.open_slot(SLOT, Limits())
    assert bench.program.traffic(SLOT) == Traffic(0, 0, 0, 0)


def test_bytes_beyond_the_limit_are_dropped_in_each_direction(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    # One byte lasts a tenth of a second, so that what is refilled during the test makes no difference.
    bench.program.open_slot(SLOT, Limits(bytes_per_second=10))
    to_peer = Datagram(alike.client, alike.listener, channel_data(bytes(4)))
    to_client = Datagram(alike.peer, alike.relayed, bytes(4))
    assert bench.count_relayed(to_peer, 8) == 3  # a burst of one second, and the packet that overdraws it
    assert bench.count_relayed(to_client, 8) == 3
    assert bench.drops() == {Drop.BANDWIDTH: 10, Drop.PEER_RATE: 0, Drop.SEND_FAILED: 0}
    assert bench.program.traffic(SLOT) == Traffic(3, 12, 3, 12)


def test_packets_of_peers_beyond_the_limit_are_dropped(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    bench.program.open_slot(SLOT, Limits(packets_per_second=2))
    assert bench.count_relayed(Datagram(alike.peer, alike.relayed, bytes(4)), 8) == 3
    assert bench.count_relayed(Datagram(alike.client, alike.listener, channel_data(bytes(4))), 8) == 8
    assert bench.drops()[Drop.PEER_RATE] == 5


def test_where_two_clients_meet_the_limits_of_both_hold(bench: Bench, alike: Addresses) -> None:
    until = later()
    meeting = Onward(alike.relayed, alike.other_relayed, 0, SLOT, until, meets=True)
    far_side = Onward(alike.other_listener, alike.other_client, OTHER_NUMBER, OTHER_SLOT, until)
    bench.program.set_flow(Way(Kind.CHANNEL, alike.client, alike.listener, NUMBER), meeting)
    bench.program.set_flow(Way(Kind.MEET, alike.relayed, alike.other_relayed), far_side)
    came = Datagram(alike.client, alike.listener, channel_data(bytes(4)))
    bench.program.open_slot(OTHER_SLOT, Limits(packets_per_second=2))
    assert bench.count_relayed(came, 8) == 3
    bench.program.open_slot(OTHER_SLOT, Limits())
    bench.program.open_slot(SLOT, Limits(bytes_per_second=10))
    assert bench.count_relayed(came, 8) == 3


def test_limits_can_be_changed_without_losing_counters(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    came = Datagram(alike.peer, alike.relayed, bytes(4))
    bench.program.open_slot(SLOT, Limits(packets_per_second=1))
    assert bench.count_relayed(came, 4) == 2
    bench.program.set_limits(SLOT, Limits())
    assert bench.count_relayed(came, 4) == 4
    assert bench.program.traffic(SLOT) == Traffic(0, 0, 6, 24)


def test_a_removed_flow_relays_nothing_and_may_be_removed_again(bench: Bench, alike: Addresses) -> None:
    bench.call(alike)
    way = Way(Kind.PEER, alike.peer, alike.relayed)
    came = encode_frame(Datagram(alike.peer, alike.relayed, b"data"))
    bench.program.remove_flow(way)
    bench.passes_up(came, None)  # nothing that arrives there is known any more
    bench.program.remove_flow(way)
    assert way not in set(bench.program.flows())


def test_flows_tells_every_way_as_it_was_set(bench: Bench) -> None:
    for who in FAMILIES.values():
        bench.call(who)
    meet = Way(Kind.MEET, who.relayed, who.other_relayed)
    bench.program.set_flow(meet, Onward(who.other_listener, who.other_client, 0, 0, 1))
    wanted = {
        way
        for who in FAMILIES.values()
        for way in (
            Way(Kind.CHANNEL, who.client, who.listener, NUMBER),
            Way(Kind.SEND, who.client, who.listener, peer=who.peer),
            Way(Kind.PEER, who.peer, who.relayed),
        )
    } | {meet}
    assert set(bench.program.flows()) == wanted
    for way in wanted:
        bench.program.remove_flow(way)
    assert list(bench.program.flows()) == []


def test_flows_may_be_removed_while_they_are_told(bench: Bench, alike: Addresses) -> None:
    peers = [alike.peer._replace(port=port) for port in range(3000, 3060)]
    onward = Onward(alike.listener, alike.client, 0, SLOT, later())
    for peer in peers:
        bench.program.set_flow(Way(Kind.PEER, peer, alike.relayed), onward)
    for way in bench.program.flows():
        bench.program.remove_flow(way)
    assert list(bench.program.flows()) == []


def _change_forever(program: KernelProgram, ways: list[Way], parent: int) -> None:
    """What the control plane does all day, as fast as it can be done: refresh, remove, set another."""
    table = program._table("flows")
    flows = [(layout.encode_way(way), table.get(layout.encode_way(way))) for way in ways]
    while os.getppid() == parent:
        for _ in range(1000):
            for flow in flows:
                table.set(*flow)
        for _ in range(1000):
            table.remove(flows[0][0])
            table.set(*flows[1])
            table.remove(flows[1][0])
            table.set(*flows[0])


def test_no_packet_leaves_by_the_flow_of_another_client_while_flows_change(bench: Bench) -> None:
    who = FAMILIES["4"]
    flows = []
    for number in range(2):
        client, relayed = who.client._replace(port=7000 + number), who.relayed._replace(port=50100 + number)
        peer = who.peer._replace(port=9000 + number)
        flows.append((Way(Kind.CHANNEL, client, who.listener, NUMBER), Onward(relayed, peer, 0, SLOT, later())))
    for way, onward in flows:
        bench.program.set_flow(way, onward)
    (way, onward), came = flows[0], Datagram(flows[0][0].remote, who.listener, channel_data(b"of the first"))
    frame = encode_frame(came)
    parent, child = os.getpid(), os.fork()
    if not child:
        try:
            _change_forever(bench.program, [way for way, _ in flows], parent)
        finally:
            os._exit(1)
    try:
        outcomes = [run(bench.program, frame) for _ in range(PACKETS_WHILE_FLOWS_CHANGE)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    left = [decode_frame(outcome.frame) for outcome in outcomes if outcome.verdict is Verdict.ON]
    assert {outcome.frame for outcome in outcomes if outcome.verdict is not Verdict.ON} <= {frame}
    assert left
    assert {datagram[:3] for datagram in left} == {(onward.source, onward.destination, b"of the first")}


def test_a_full_table_refuses_one_more_flow_and_keeps_the_others(bench: Bench, alike: Addresses) -> None:
    onward = Onward(alike.listener, alike.client, NUMBER, SLOT, later())
    ways = [Way(Kind.PEER, alike.peer._replace(port=port), alike.relayed) for port in range(3000, 3000 + MOST_FLOWS)]
    for way in ways:
        bench.program.set_flow(way, onward)
    with pytest.raises(TableFull):
        bench.program.set_flow(Way(Kind.PEER, alike.peer, alike.relayed), onward)
    bench.program.set_flow(ways[0], onward)  # replaced, not added
    assert bench.run(Datagram(ways[7].remote, alike.relayed, b"data")).verdict is Verdict.ON
    bench.program.remove_flow(ways[3])
    bench.program.set_flow(Way(Kind.PEER, alike.peer, alike.relayed), onward)


def test_a_destination_that_is_this_machine_or_nowhere_is_refused(bench: Bench, alike: Addresses) -> None:
    way = Way(Kind.SEND, alike.client, alike.listener, peer=alike.peer)
    bench.program.set_flow(way, Onward(alike.relayed, alike.peer, 0, SLOT, later()))
    nowhere = address("203.0.113.1" if len(alike.peer.ip) == 4 else "2001:db8::1", 9)
    for destination in (alike.listener, nowhere):
        with pytest.raises(Unroutable):
            bench.program.set_flow(way, Onward(alike.relayed, destination, 0, SLOT, later()))
        assert list(bench.program.flows()) == []


def test_a_closed_program_refuses_every_command() -> None:
    program = KernelProgram.load([], flows=64, slots=16)
    program.close()
    program.close()
    who = FAMILIES["4"]
    way, onward = Way(Kind.PEER, who.peer, who.relayed), Onward(who.listener, who.client, 0, SLOT, 1)
    commands = (
        lambda: program.set_flow(way, onward),
        lambda: program.remove_flow(way),
        lambda: list(program.flows()),
        lambda: program.open_slot(SLOT, Limits()),
        lambda: program.set_limits(SLOT, Limits()),
        lambda: program.traffic(SLOT),
        program.drops,
        program.passed,
        program.routes_changed,
    )
    for command in commands:
        with pytest.raises(OffloadFailed, match="closed"):
            command()

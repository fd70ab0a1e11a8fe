"""The kernel program where packets really come in: between three network namespaces, and at the end of its process."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from relay.datapath import Limits, Traffic
from relay.io.datapath.bpf import program as program_module
from relay.io.datapath.bpf import syscalls
from relay.io.datapath.bpf.program import Hook, KernelProgram, Kind, OffloadUnavailable, Onward, Way
from stun.address import TransportAddress
from tests.support.lab import Lab, open_lab
from tests.support.program_bench import (
    FAMILIES,
    NUMBER,
    OTHER_NUMBER,
    SLOT,
    Addresses,
    channel_data,
    data_of,
    later,
    send_indication,
)

PATIENCE: Final = 5.0  # seconds
ONLY_THESE: Final = ("setpriv", "--inh-caps=-all", "--bounding-set")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The two clients finish their checksums themselves, as real network cards do."""
    with open_lab() as lab:
        for namespace, device in ((lab.alice, f"{lab.alice}0"), (lab.bob, f"{lab.bob}0")):
            assert lab.run(namespace, "ethtool", "-K", device, "tx", "off", "gro", "on").returncode == 0
        for link in (lab.alice_link, lab.bob_link):
            assert lab.run(lab.server, "ethtool", "-K", link, "gro", "on").returncode == 0
        yield lab


@contextlib.contextmanager
def bound(lab: Lab, namespace: str, address: TransportAddress) -> Iterator[socket.socket]:
    family = socket.AF_INET if len(address.ip) == 4 else socket.AF_INET6
    with lab.inside(namespace):
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(PATIENCE)
        sock.bind((socket.inet_ntop(family, address.ip), address.port))
        yield sock


@contextlib.contextmanager
def forwarding(lab: Lab, value: str) -> Iterator[None]:
    """What an operator does for XDP; the links are a lab's, and go with it."""
    keys = [f"net.{family}.conf.{link}.forwarding" for family in ("ipv4", "ipv6") for link in links(lab)]
    assert lab.run(lab.server, "sysctl", "-qw", *(f"{key}={value}" for key in keys)).returncode == 0
    yield


def links(lab: Lab) -> list[str]:
    return [lab.alice_link, lab.bob_link]


def shown(address: TransportAddress) -> tuple[str, int]:
    return socket.inet_ntop(socket.AF_INET if len(address.ip) == 4 else socket.AF_INET6, address.ip), address.port


@pytest.mark.parametrize("hook", list(Hook), ids=lambda hook: hook.value)
@pytest.mark.parametrize("who", FAMILIES.values(), ids=FAMILIES)
def test_packets_of_a_call_pass_by_the_sockets_that_are_bound_there(lab: Lab, who: Addresses, hook: Hook) -> None:
    with contextlib.ExitStack() as opened:
        opened.enter_context(forwarding(lab, "1" if hook is Hook.XDP else "0"))
        client = opened.enter_context(bound(lab, lab.alice, who.client))
        peer = opened.enter_context(bound(lab, lab.bob, who.peer))
        listener = opened.enter_context(bound(lab, lab.server, who.listener))
        relayed = opened.enter_context(bound(lab, lab.server, who.relayed))
        with lab.inside(lab.server):
            program = KernelProgram.load(links(lab), flows=64, slots=16, hook=hook)
        opened.callback(program.close)
        # XDP leaves the first packet to a neighbour that nobody has spoken to yet to user space.
        listener.sendto(b"hello", shown(who.client))
        relayed.sendto(b"hello", shown(who.peer))
        assert (client.recv(100), peer.recv(100)) == (b"hello", b"hello")

        program.open_slot(SLOT, Limits())
        to_peer = Onward(who.relayed, who.peer, 0, SLOT, later())
        to_client = Onward(who.listener, who.client, NUMBER, SLOT, later())
        program.set_flow(Way(Kind.CHANNEL, who.client, who.listener, NUMBER), to_peer)
        program.set_flow(Way(Kind.SEND, who.client, who.listener, peer=who.peer), to_peer)
        program.set_flow(Way(Kind.PEER, who.peer, who.relayed), to_client)
        for message in (channel_data(b"by channel"), send_indication(b"by channel", who.peer)):
            client.sendto(message, shown(who.listener))
            data, source = peer.recvfrom(2000)
            assert (data, source[:2]) == (b"by channel", shown(who.relayed))
        peer.sendto(b"answer", shown(who.relayed))
        data, source = client.recvfrom(2000)
        assert (data, source[:2]) == (channel_data(b"answer"), shown(who.listener))
        program.set_flow(Way(Kind.PEER, who.peer, who.relayed), to_client._replace(number=0))
        peer.sendto(b"answer", shown(who.relayed))
        assert data_of(client.recv(2000))[:2] == (b"answer", who.peer)
        assert program.traffic(SLOT) == Traffic(2, 20, 2, 12)
        for untouched in (listener, relayed):
            untouched.settimeout(0)
            with pytest.raises(BlockingIOError):
                untouched.recv(2000)


def test_a_neighbour_that_nobody_has_spoken_to_is_found_by_the_kernel(lab: Lab) -> None:
    who = FAMILIES["4"]
    lab.run(lab.server, "ip", "neigh", "flush", "dev", lab.bob_link)
    with bound(lab, lab.alice, who.client) as client, bound(lab, lab.bob, who.peer) as peer:
        with lab.inside(lab.server):
            program = KernelProgram.load(links(lab), flows=64, slots=16)
        try:
            program.open_slot(SLOT, Limits())
            way = Way(Kind.CHANNEL, who.client, who.listener, NUMBER)
            program.set_flow(way, Onward(who.relayed, who.peer, 0, SLOT, later()))
            client.sendto(channel_data(b"first"), shown(who.listener))
            assert peer.recv(100) == b"first"
        finally:
            program.close()


@pytest.mark.parametrize("router", [("10.91.2.2",), ("inet6", "fd91:2::2")], ids=["IPv4", "IPv6"])
def test_a_peer_behind_a_router_is_reached(lab: Lab, router: tuple[str, ...]) -> None:
    who, peer_ip = FAMILIES["4"], "198.51.100.1"
    far = TransportAddress.parse(peer_ip, 2222)
    assert lab.run(lab.bob, "ip", "addr", "add", f"{peer_ip}/32", "dev", "lo").returncode == 0
    route = ("ip", "route", "replace", "198.51.100.0/24", "via", *router, "dev", lab.bob_link)
    assert lab.run(lab.server, *route).returncode == 0
    with bound(lab, lab.alice, who.client) as client, bound(lab, lab.bob, far) as peer:
        with lab.inside(lab.server):
            program = KernelProgram.load(links(lab), flows=64, slots=16)
        try:
            program.open_slot(SLOT, Limits())
            way = Way(Kind.CHANNEL, who.client, who.listener, NUMBER)
            program.set_flow(way, Onward(who.relayed, far, 0, SLOT, later()))
            client.sendto(channel_data(b"far away"), shown(who.listener))
            assert peer.recvfrom(100) == (b"far away", shown(who.relayed))
            assert program.traffic(SLOT) == Traffic(1, 8, 0, 0)
        finally:
            program.close()
            lab.run(lab.server, "ip", "route", "delete", "198.51.100.0/24")
            lab.run(lab.bob, "ip", "addr", "delete", f"{peer_ip}/32", "dev", "lo")


def _child(lab: Lab, hook: str, *rights: str) -> list[str]:
    module = [sys.executable, "-m", "tests.support.program_child", hook, *links(lab)]
    return lab.command(lab.server, *rights, *module)


def test_nothing_is_forwarded_once_the_process_has_been_killed(lab: Lab) -> None:
    who = FAMILIES["4"]
    with (
        bound(lab, lab.alice, who.client) as client,
        bound(lab, lab.bob, who.peer) as peer,
        bound(lab, lab.server, who.listener) as listener,
        subprocess.Popen(_child(lab, "tcx"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
    ):
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "attached\n"
            client.sendto(channel_data(b"alive"), shown(who.listener))
            assert peer.recv(100) == b"alive"
        finally:
            child.kill()
        child.wait(PATIENCE)
        client.sendto(channel_data(b"dead"), shown(who.listener))
        assert listener.recv(100) == channel_data(b"dead")


def _said(lab: Lab, hook: str, *rights: str) -> str:
    done = subprocess.run(_child(lab, hook, *rights), input="", capture_output=True, text=True, timeout=60, check=False)
    return (done.stderr if done.returncode else done.stdout).strip()


@pytest.mark.parametrize("hook", ["tcx", "xdp"])
def test_two_capabilities_are_enough(lab: Lab, hook: str) -> None:
    with forwarding(lab, "1"):
        assert _said(lab, hook, *ONLY_THESE, "-all,+bpf,+net_admin") == "attached"


@pytest.mark.parametrize("rights", ["-all,+net_admin", "-all,+bpf", "-all"])
def test_without_a_capability_the_reason_names_both(lab: Lab, rights: str) -> None:
    said = _said(lab, "tcx", *ONLY_THESE, rights)
    assert said == "not permitted: it needs CAP_BPF and CAP_NET_ADMIN"


def test_two_workers_share_an_interface_by_tcx_but_not_by_xdp(lab: Lab) -> None:
    who, other = FAMILIES["4"], FAMILIES["4"].client._replace(port=1112)
    onward = Onward(who.relayed, who.peer, 0, SLOT, later())
    with contextlib.ExitStack() as opened:
        peer = opened.enter_context(bound(lab, lab.bob, who.peer))
        opened.enter_context(lab.inside(lab.server))
        for client in (who.client, other):
            program = KernelProgram.load(links(lab), flows=64, slots=16)
            opened.callback(program.close)
            program.open_slot(SLOT, Limits())
            program.set_flow(Way(Kind.CHANNEL, client, who.listener, NUMBER), onward)
        for client in (who.client, other):
            with bound(lab, lab.alice, client) as sock:
                sock.sendto(channel_data(b"data"), shown(who.listener))
                assert peer.recv(100) == b"data"
        assert syscalls.query(socket.if_nametoindex(lab.alice_link), syscalls.ATTACH_TCX_INGRESS) == 2
        opened.enter_context(forwarding(lab, "1"))
        opened.callback(KernelProgram.load(links(lab), flows=64, slots=16, hook=Hook.XDP).close)
        with pytest.raises(OffloadUnavailable, match=f"another program is attached to {lab.alice_link} by xdp"):
            KernelProgram.load(links(lab), flows=64, slots=16, hook=Hook.XDP)


def test_what_goes_up_is_counted_once_however_many_workers_look_at_it(lab: Lab) -> None:
    who = FAMILIES["4"]
    onward = Onward(who.relayed, who.peer, 0, SLOT, later())
    with contextlib.ExitStack() as opened:
        peer = opened.enter_context(bound(lab, lab.bob, who.peer))
        client = opened.enter_context(bound(lab, lab.alice, who.client))
        listener = opened.enter_context(bound(lab, lab.server, who.listener))
        opened.enter_context(lab.inside(lab.server))
        programs = []
        for number in (NUMBER, OTHER_NUMBER):  # the first one sees all packets of the second one's client
            program = KernelProgram.load(links(lab), flows=64, slots=16, shares_listeners=True)
            opened.callback(program.close)
            program.open_slot(SLOT, Limits())
            program.set_flow(Way(Kind.CHANNEL, who.client, who.listener, number), onward)
            programs.append(program)
        for number in (NUMBER, OTHER_NUMBER):
            client.sendto(channel_data(b"known", number=number), shown(who.listener))
            assert peer.recv(100) == b"known"
        client.sendto(b"whatever", shown(who.listener))
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        client.sendto(channel_data(b"its last hop"), shown(who.listener))
        assert (listener.recv(100), listener.recv(100)) == (b"whatever", channel_data(b"its last hop"))
        told = [program.passed() for program in programs]
        together = {reason: sum(passed[reason] for passed in told) for reason in told[0]}
        assert {reason: count for reason, count in together.items() if count} == {"hops": 1}


def test_xdp_asks_for_forwarding_instead_of_switching_it_on(lab: Lab) -> None:
    with forwarding(lab, "0"):
        assert _said(lab, "xdp") == f"XDP needs net.ipv4.conf.{lab.alice_link}.forwarding=1"


def test_interfaces_that_do_not_do_are_named(lab: Lab) -> None:
    with lab.inside(lab.server):
        with pytest.raises(OffloadUnavailable, match="lo is no Ethernet interface"):
            KernelProgram.load(["lo"], flows=64, slots=16)
        with pytest.raises(OffloadUnavailable, match="no network interface 'nowhere0'"):
            KernelProgram.load(["nowhere0"], flows=64, slots=16)


def test_an_object_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(program_module, "SOURCE", tmp_path / "relay.bpf.c")
    (tmp_path / "relay.bpf.c").write_text("/* edited since */")
    with pytest.raises(OffloadUnavailable, match="built of other sources: make native"):
        KernelProgram.load([], flows=64, slots=16)
    monkeypatch.setattr(program_module, "OBJECT", tmp_path / "relay.bpf.o")
    with pytest.raises(OffloadUnavailable, match="not built: make native"):
        KernelProgram.load([], flows=64, slots=16)


def test_a_changed_route_is_heard_of_once(lab: Lab) -> None:
    who = FAMILIES["4"]
    with lab.inside(lab.server):
        program = KernelProgram.load([], flows=64, slots=16)
        try:
            way, onward = Way(Kind.PEER, who.peer, who.relayed), Onward(who.listener, who.client, 0, SLOT, later())
            program.set_flow(way, onward)
            assert not program.routes_changed()
            lab.run(lab.server, "ip", "route", "add", "192.0.2.0/24", "dev", lab.bob_link)
            assert program.routes_changed()
            assert not program.routes_changed()
            lab.run(lab.server, "ip", "route", "delete", "192.0.2.0/24", "dev", lab.bob_link)
        finally:
            program.close()

import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from relay.io.datapath import choice
from relay.io.datapath.bpf.errors import OffloadUnavailable
from relay.io.datapath.choice import FLOWS_PER_SLOT, MAX_INTERFACES, MAX_SLOTS, Offer, ingress_interfaces, offer_of
from relay.settings import RelaySettings
from tests.support.fake_program import FakeProgram

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
down0\t00000000\t00000000\t0002\t0\t0\t0\t00000000\t0\t0\t0
"""
ZEROS = "0" * 32
ROUTES_V6 = f"""\
{ZEROS} 00 {ZEROS} 00 {ZEROS} 00000400 00000001 00000000 00000003     eth2
{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 00000001 00000000 00200200       lo
fe800000000000000000000000000000 40 {ZEROS} 00 {ZEROS} 00000100 00000001 00000000 00000001     eth3
"""


def packed(*texts: str) -> frozenset[bytes]:
    return frozenset(ipaddress.ip_address(text).packed for text in texts)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with five interfaces and two default routes."""
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "ipv6_route").write_text(ROUTES_V6)
    monkeypatch.setattr(choice, "_ROUTES", tmp_path / "route")
    monkeypatch.setattr(choice, "_ROUTES_V6", tmp_path / "ipv6_route")
    adapters = [
        adapter("lo", "127.0.0.1", "192.0.2.77"),
        adapter("eth0", "192.168.1.2"),
        adapter("eth1:0", "192.0.2.1"),
    ]
    adapters += [adapter("eth2", ("2001:db8::1", 0, 3)), adapter("eth3", "192.168.2.2")]
    for name in ("lo", "eth0", "eth1", "eth2", "eth3", "tun0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text({"lo": "772\n", "tun0": "65534\n"}.get(name, "1\n"))
    monkeypatch.setattr(choice, "_CLASS", tmp_path)
    adapters.append(adapter("tun0", "192.168.3.2"))
    monkeypatch.setattr(choice, "ifaddr", SimpleNamespace(get_adapters=lambda: adapters))


def adapter(name: str, *addresses: object) -> SimpleNamespace:
    return SimpleNamespace(name=name, ips=[SimpleNamespace(ip=address) for address in addresses])


@pytest.mark.parametrize(
    ("addresses", "interfaces"),
    [
        (["192.0.2.1"], ("eth0", "eth1", "eth2")),
        (["2001:db8::1"], ("eth0", "eth2")),
        (["192.168.2.2", "127.0.0.1"], ("eth0", "eth2", "eth3")),
        (["192.0.2.77"], ("eth0", "eth2")),  # announced to a router, and held by loopback
        (["192.168.3.2"], ("eth0", "eth2")),  # by a tunnel, which is left to user space
        (["127.0.0.1", "::1"], ()),
        ([], ()),
    ],
)
def test_packets_arrive_where_the_address_is_and_by_the_default_routes(
    addresses: Sequence[str], interfaces: tuple[str, ...]
) -> None:
    assert ingress_interfaces(packed(*addresses)) == interfaces


def test_there_is_room_for_every_relayed_address_up_to_a_bound() -> None:
    few = RelaySettings(port_min=50_000, port_max=50_099)
    assert offer_of(few, packed("192.0.2.1")).slots == 100
    assert offer_of(few, packed("192.0.2.1", "2001:db8::1")) == Offer(("eth0", "eth1", "eth2"), 200)
    assert offer_of(few, packed("192.0.2.1")).flows == 100 * FLOWS_PER_SLOT
    assert offer_of(RelaySettings(port_min=1024), packed("192.0.2.1")).slots == MAX_SLOTS


class Loader:
    """Loads a fake, or says why not."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.asked: list[tuple[str, ...]] = []

    def load(self, interfaces: tuple[str, ...], **_: object) -> FakeProgram:
        self.asked.append(interfaces)
        if self.reason:
            raise OffloadUnavailable(self.reason)
        return FakeProgram()


def test_auto_takes_the_kernel_where_it_works_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loader = Loader()
    monkeypatch.setattr(choice, "KernelProgram", loader)
    with caplog.at_level(logging.INFO):
        assert choice.take_program(RelaySettings(datapath="auto"), Offer(("eth0", "eth1"), 1)) is not None
    assert caplog.messages == ["datapath: the kernel relays busy flows of UDP clients (TCX on eth0, eth1)"]
    assert loader.asked == [("eth0", "eth1")]


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (Offer(("eth0",), 1), "the kernel is too old"),
        (Offer((), 1), "no Ethernet interface has an address of the relay"),
        (Offer(tuple(f"eth{number}" for number in range(MAX_INTERFACES + 1)), 1), "65 interfaces are more than 64"),
    ],
)
def test_where_it_does_not_work_auto_goes_on_with_the_reason_and_kernel_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, offer: Offer, reason: str
) -> None:
    monkeypatch.setattr(choice, "KernelProgram", Loader("the kernel is too old"))
    with caplog.at_level(logging.INFO):
        assert choice.take_program(RelaySettings(datapath="auto"), offer) is None
    assert caplog.messages == [f"datapath: user space relays; the kernel cannot: {reason}"]
    with pytest.raises(OffloadUnavailable, match=reason):
        choice.take_program(RelaySettings(datapath="kernel"), offer)


def test_plain_asks_the_kernel_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader()
    monkeypatch.setattr(choice, "KernelProgram", loader)
    assert choice.take_program(RelaySettings(datapath="plain"), Offer(("eth0",), 1)) is None
    assert loader.asked == []


@pytest.mark.parametrize(
    ("offsets", "is_other"),
    [("monotonic 0 0\nboottime 5 0\n", False), ("monotonic 100000 0\nboottime 0 0\n", True), (None, False)],
)
def test_where_our_clock_is_not_the_kernels_nothing_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    offsets: str | None,
    is_other: bool,  # noqa: FBT001
) -> None:
    if offsets is not None:
        (tmp_path / "timens_offsets").write_text(offsets)
    monkeypatch.setattr(choice, "_TIME_OFFSETS", tmp_path / "timens_offsets")
    monkeypatch.setattr(choice, "KernelProgram", Loader())
    assert choice.is_in_time_namespace() is is_other
    assert (choice.take_program(RelaySettings(datapath="auto"), Offer(("eth0",), 1)) is None) is is_other

"""Takes the kernel plane where it works: which interfaces it needs, how large its tables are, and what speaks against.

Nothing here decides for good: `auto` goes on in user space with the reason in one log line, `kernel` refuses to start.
"""

import ipaddress
import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import ifaddr

from relay.io.datapath.bpf.errors import OffloadUnavailable
from relay.io.datapath.bpf.program import Hook, KernelProgram
from relay.settings import RelaySettings

MAX_INTERFACES: Final = 64  # more of them are more likely a mistake than a relay
MAX_SLOTS: Final = 16_384  # relayed transport addresses that the kernel has room for: as many as one default range
FLOWS_PER_SLOT: Final = 4  # a call has two flows for each client: to its peer, and back
HOOK: Final = Hook.TCX

_log = logging.getLogger(__name__)

_CLASS: Final = Path("/sys/class/net")
_ETHERNET: Final = "1"  # ARPHRD_ETHER
_TIME_OFFSETS: Final = Path("/proc/self/timens_offsets")
_ROUTES: Final = Path("/proc/net/route")
_ROUTES_V6: Final = Path("/proc/net/ipv6_route")
_IS_UP: Final = 0x1  # RTF_UP, and RTF_REJECT of a route that leads nowhere
_IS_REJECT: Final = 0x200


class Offer(NamedTuple):
    """What the kernel would be asked for."""

    interfaces: tuple[str, ...]
    slots: int
    shares_listeners: bool = False  # with other workers

    @property
    def flows(self) -> int:
        """Entries of its table."""
        return self.slots * FLOWS_PER_SLOT


def offer_of(settings: RelaySettings, addresses: Collection[bytes]) -> Offer:
    """What these settings ask of the kernel.

    Args:
        settings: of the relay.
        addresses: packed IP addresses of listeners and of relayed transport addresses, as bound.
    """
    ports = settings.port_max - settings.port_min + 1
    families = len({len(ip) for ip in addresses})
    slots = min(ports * max(families, 1), MAX_SLOTS)
    return Offer(ingress_interfaces(addresses), slots, shares_listeners=settings.workers > 1)


def take_program(settings: RelaySettings, offer: Offer) -> KernelProgram | None:
    """Load the program and attach it, unless the settings or the machine say no; one log line tells which and why.

    Raises:
        OffloadUnavailable: the settings demand it, and it cannot be had.
    """
    if settings.datapath == "plain":
        _log.info("datapath: user space relays, as relay.datapath says")
        return None
    try:
        program = load_program(offer)
    except OffloadUnavailable as error:
        if settings.datapath == "kernel":
            raise
        _log.info("datapath: user space relays; the kernel cannot: %s", error)
        return None
    where = ", ".join(offer.interfaces)
    _log.info("datapath: the kernel relays busy flows of UDP clients (%s on %s)", program.hook.name, where)
    return program


def load_program(offer: Offer) -> KernelProgram:
    """Load the program and attach it.

    Raises:
        OffloadUnavailable: it cannot be had.
    """
    if not offer.interfaces:
        raise OffloadUnavailable("no Ethernet interface has an address of the relay")
    if len(offer.interfaces) > MAX_INTERFACES:
        raise OffloadUnavailable(f"{len(offer.interfaces)} interfaces are more than {MAX_INTERFACES}")
    if is_in_time_namespace():
        raise OffloadUnavailable("in a time namespace our clock is not the kernel's, and nothing would expire in time")
    return KernelProgram.load(
        offer.interfaces, flows=offer.flows, slots=offer.slots, hook=HOOK, shares_listeners=offer.shares_listeners
    )


def try_program(offer: Offer) -> None:
    """Load the program, attach it to nothing, and let it go.

    Raises:
        OffloadUnavailable: this kernel, or this process, cannot have it.
    """
    KernelProgram.load((), flows=offer.flows, slots=offer.slots, hook=HOOK).close()


def ingress_interfaces(addresses: Iterable[bytes]) -> tuple[str, ...]:
    """Where packets for these addresses arrive: the interfaces that have them, and those of the default routes.

    The latter, because an address that is announced to a router often lives on the loopback interface. Interfaces that
    are not Ethernet, such as tunnels, are left out: what arrives there is relayed by user space.
    """
    wanted = {ip for ip in addresses if not ipaddress.ip_address(ip).is_loopback}
    if not wanted:
        return ()
    found = set(default_interfaces())
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            if ipaddress.ip_address(text).packed in wanted:
                found.add(str(adapter.name).partition(":")[0])  # of an alias such as eth0:1
    return tuple(sorted(name for name in found if _is_ethernet(name)))


def is_in_time_namespace() -> bool:
    """Whether our monotonic clock differs from that of the kernel, by which flows expire."""
    if not _TIME_OFFSETS.exists():  # before Linux 5.6 there are none
        return False
    offsets = (line.split() for line in _TIME_OFFSETS.read_text().splitlines())
    return any(clock == "monotonic" and (seconds, rest) != ("0", "0") for clock, seconds, rest in offsets)


def _is_ethernet(name: str) -> bool:
    kind = _CLASS / name / "type"
    return kind.exists() and kind.read_text().strip() == _ETHERNET


def default_interfaces() -> set[str]:
    """The interfaces of the default routes, of this network namespace."""
    found = set()
    if _ROUTES.exists():
        for line in _ROUTES.read_text().splitlines()[1:]:
            name, destination, _gateway, flags, _, _, _, mask, *_ = line.split()
            if (destination, mask) == ("00000000", "00000000") and int(flags, 16) & _IS_UP:
                found.add(name)
    if _ROUTES_V6.exists():
        for line in _ROUTES_V6.read_text().splitlines():
            destination, length, *_, flags, name = line.split()
            if (destination, length) == ("0" * 32, "00") and int(flags, 16) & (_IS_UP | _IS_REJECT) == _IS_UP:
                found.add(name)
    return found

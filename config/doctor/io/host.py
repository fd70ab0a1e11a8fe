"""Collects what the machine and its kernel are like."""

import ctypes
import math
import os
import socket
import struct
from typing import Final

from config import native
from config.doctor.facts import Buffers, Clock, Conntrack, Datapath, Descriptors, Identity, Offload
from config.doctor.io.proc import (
    CAP_BPF,
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    has_capability,
    parse_hard_limit,
    parse_status,
    parse_udp_counters,
    process_file,
    system_number,
)
from config.schema import Settings
from relay.io.addresses import listen_addresses, packed_addresses, relay_addresses
from relay.io.datapath.bpf.errors import OffloadUnavailable
from relay.io.datapath.choice import offer_of, try_program
from relay.io.datapath.segments import kernel_cuts
from relay.io.udp import RECEIVE_BUFFER_BYTES
from relay.port_pool import share_of

SPARE_DESCRIPTORS: Final = 256  # listeners, database, files
_SOL_UDP: Final = 17
_UDP_GRO: Final = 104
_TIMEX: Final = struct.Struct("@Illlli")  # the head of `struct timex`, up to its status
_TIMEX_BYTES: Final = 512
_UNSYNCHRONISED: Final = 0x40  # STA_UNSYNC
_TIME_ERROR: Final = 5
_CONNTRACK: Final = "net/netfilter/nf_conntrack"


def collect_identity(pid: int) -> Identity:
    """As whom the service with this PID runs; 0: as whom we do."""
    user = int(parse_status(process_file(pid, "status"))["Uid"].split()[1])
    return Identity(user, is_service=bool(pid))


def collect_clock() -> Clock:
    """Ask the kernel, and nobody else.

    Raises:
        OSError: it does not answer.
    """
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes are 0: it changes nothing
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _modes, _offset, _frequency, max_error, _estimate, status = _TIMEX.unpack_from(buffer)
    is_synchronised = state != _TIME_ERROR and not status & _UNSYNCHRONISED
    return Clock(is_synchronised, max_error / 1e6)


def collect_buffers(pid: int) -> Buffers:
    """The bounds of receive buffers, for the service with this PID or for us."""
    allowed = system_number("net/core/rmem_max")
    can_force = has_capability(parse_status(process_file(pid, "status")), CAP_NET_ADMIN)
    counters = parse_udp_counters(process_file(pid, "net/snmp"))
    lost, received = counters.get("RcvbufErrors", 0), counters.get("InDatagrams", 0)
    return Buffers(RECEIVE_BUFFER_BYTES, allowed, can_force, lost, received)


def collect_descriptors(settings: Settings, pid: int) -> Descriptors:
    """The limit of the service with this PID, or ours, and what the bounds of the settings add up to."""
    relayed = workers = 0
    if "relay" in settings.services:
        workers = settings.relay.workers
        relayed = math.ceil((_relayed_ports(settings) + settings.relay.quota.stream_connections) / workers)
    clients = settings.signaling.max_clients if "signaling" in settings.services else 0
    needed = relayed + clients if workers <= 1 else max(relayed, clients)
    return Descriptors(parse_hard_limit(process_file(pid, "limits")), needed + SPARE_DESCRIPTORS, max(workers, 1))


def collect_conntrack(settings: Settings) -> Conntrack:
    """The table of connections, if the kernel has one in this network namespace."""
    try:
        count, size = system_number(f"{_CONNTRACK}_count"), system_number(f"{_CONNTRACK}_max")
    except FileNotFoundError:
        return Conntrack(is_loaded=False)
    relay = settings.relay
    ports = [str(port) for port in (*relay.udp_ports, *relay.dtls_ports)] + [f"{relay.port_min}-{relay.port_max}"]
    if "sfu" in settings.services:
        ports += map(str, settings.sfu.udp_ports)
    # A flow of the client to the listener, and one of the peer to the relayed port.
    return Conntrack(True, count, size, 2 * _relayed_ports(settings), ", ".join(ports))  # noqa: FBT003


def collect_offload() -> Offload:
    """What this kernel can, and how our code runs."""
    is_fresh = native.is_fresh()
    return Offload(_kernel_joins(), kernel_cuts(), is_fresh, native.TREE.exists() and not is_fresh)


def collect_datapath(settings: Settings, pid: int, running: str) -> Datapath:
    """Who relays, or could: the program is loaded for a moment and attached to nothing.

    Args:
        settings: of the service.
        pid: of the service; 0: it does not run, and we are asked instead.
        running: what the service says of itself; empty if it says nothing.
    """
    relay = settings.relay
    if relay.datapath == "plain":
        return Datapath(relay.datapath)
    listening = listen_addresses(relay) if relay.udp_ports else []
    addresses = packed_addresses(listening) | {address.bound for address in relay_addresses(relay)}
    offer = offer_of(relay, addresses)
    status = parse_status(process_file(pid, "status"))
    is_root = has_capability(status, CAP_SYS_ADMIN)
    needed = (("CAP_BPF", CAP_BPF), ("CAP_NET_ADMIN", CAP_NET_ADMIN))
    missing = tuple(name for name, number in needed if not (is_root or has_capability(status, number)))
    trouble = ""
    if offer.interfaces and not missing:
        try:
            try_program(offer)
        except OffloadUnavailable as error:
            trouble = str(error)
    is_on = {"kernel": True, "plain": False}.get(running)
    return Datapath(relay.datapath, offer.interfaces, missing, trouble, is_on)


def _relayed_ports(settings: Settings) -> int:
    relay = settings.relay
    each = share_of(relay.port_max - relay.port_min + 1, relay.quota.total_share_percent)
    return each * len(relay_addresses(relay))


def _kernel_joins() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        except OSError:
            return False
    return True

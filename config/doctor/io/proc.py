"""Reads what the kernel tells in `/proc`: who has which port, which bounds hold, what was lost."""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from config.doctor.facts import Bound, Endpoint, Process

CAP_NET_ADMIN: Final = 12
CAP_SYS_ADMIN: Final = 21
CAP_BPF: Final = 39

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"  # state of a TCP socket
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
_TABLES: Final = (("UDP", "udp"), ("UDP", "udp6"), ("TCP", "tcp"), ("TCP", "tcp6"))


class Entry(NamedTuple):
    """A line of such a table."""

    endpoint: Endpoint
    inode: int


def bound_sockets() -> list[Bound]:
    """Every UDP socket with a port and every TCP socket that listens, with its holder where we may see it.

    Raises:
        OSError: there is no `/proc`.
    """
    entries: list[Entry] = []
    for protocol, name in _TABLES:
        path = _PROC / "net" / name
        if path.exists():  # a kernel without IPv6 has half of them
            entries += parse_sockets(path.read_text(), protocol)
    holders = _holders({entry.inode for entry in entries})
    return [Bound(entry.endpoint, holders.get(entry.inode)) for entry in entries]


def parse_sockets(text: str, protocol: str) -> Iterator[Entry]:
    """Read a table such as `/proc/net/udp`; lines that are none are passed over."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or (protocol == "TCP" and fields[3] != _LISTENING):
            continue
        address, _, port = fields[1].partition(":")
        if int(port, 16):
            yield Entry(Endpoint(protocol, _address(address), int(port, 16)), int(fields[9]))


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Read `1024-2047,3000`, as `ip_local_reserved_ports` has it."""
    found = []
    for part in text.replace("\n", "").split(","):
        first, _, last = part.partition("-")
        if first.strip():
            found.append((int(first), int(last or first)))
    return tuple(found)


def parse_udp_counters(text: str) -> Mapping[str, int]:
    """The counters of UDP in `/proc/net/snmp`, by name; empty if it does not tell."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("Udp:")]
    if len(lines) != 2:
        return {}
    return {name: int(value) for name, value in zip(*lines, strict=False)}


def parse_hard_limit(text: str) -> int:
    """The hard limit of open files in `/proc/PID/limits`.

    Raises:
        ValueError: it does not tell.
    """
    for line in text.splitlines():
        if line.startswith("Max open files"):
            hard = line.split()[4]
            return (1 << 63) - 1 if hard == "unlimited" else int(hard)
    raise ValueError("no limit of open files")


def parse_status(text: str) -> Mapping[str, str]:
    """The fields of `/proc/PID/status`."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def has_capability(status: Mapping[str, str], number: int) -> bool:
    """Whether a capability is among the effective ones."""
    return bool(int(status.get("CapEff", "0"), 16) >> number & 1)


def process_file(pid: int, name: str) -> str:
    """What a file of a process says; of this one for PID 0.

    Raises:
        OSError: it has ended, or we may not look.
    """
    return (_PROC / (str(pid) if pid else "self") / name).read_text()


def system_number(path: str) -> int:
    """A number under `/proc/sys`.

    Raises:
        OSError: there is no such setting.
        ValueError: it is no number.
    """
    return int((_PROC / "sys" / path).read_text())


def _address(text: str) -> str:
    """An address in the kernel's hexadecimal, words in the machine's order; empty for the unspecified one."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    address = ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = getattr(address, "ipv4_mapped", None)
    return "" if address.is_unspecified else str(mapped or address)


def _holders(inodes: Iterable[int]) -> dict[int, Process]:
    """Who holds these sockets; processes of others are seen by root only."""
    wanted = set(inodes)
    found: dict[int, Process] = {}
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            held = wanted.intersection(_sockets_of(folder))
            if held:
                process = Process(int(folder.name), (folder / "comm").read_text().strip())
                found.update(dict.fromkeys(held, process))
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found


def _sockets_of(folder: Path) -> Iterator[int]:
    for entry in (folder / "fd").iterdir():
        try:
            match = _SOCKET.fullmatch(str(entry.readlink()))
        except FileNotFoundError:  # closed meanwhile, as that of this very listing
            continue
        if match is not None:
            yield int(match[1])

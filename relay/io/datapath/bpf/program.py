"""The kernel's share of the forwarding plane, as user space commands it (docs/decisions/0031-kernel-program.md).

It is told flows and forwards what belongs to one; everything else goes up to the sockets unchanged. It decides
nothing, and it ends with this process, because nothing is pinned.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from relay.datapath import Drop, Limits, Traffic
from relay.io.datapath.bpf import layout, syscalls
from relay.io.datapath.bpf.egress import NOWHERE, Egress
from relay.io.datapath.bpf.elf import BadObject, ObjectFile, read_object
from relay.io.datapath.bpf.errors import FlowRefused, OffloadFailed, OffloadUnavailable, TableFull, Unroutable
from relay.io.datapath.bpf.flow import Hook, Kind, Onward, Passed, Way

__all__ = [
    "FlowRefused",
    "Hook",
    "KernelProgram",
    "Kind",
    "OffloadFailed",
    "OffloadUnavailable",
    "Onward",
    "Passed",
    "TableFull",
    "Unroutable",
    "Way",
]

SOURCE: Final = Path(__file__).with_name("relay.bpf.c")
OBJECT: Final = SOURCE.with_suffix(".o")

_HOOKS: Final = {  # the type of the program, where it is attached, and how
    Hook.TCX: (syscalls.SCHED_CLS, syscalls.ATTACH_TCX_INGRESS, 0),
    # In the driver or not at all: what the kernel offers instead comes too late to be any better than tcx.
    Hook.XDP: (syscalls.XDP, syscalls.ATTACH_XDP, syscalls.XDP_IN_DRIVER),
}
_OLDEST: Final = {Hook.TCX: "6.6", Hook.XDP: "5.18"}  # kernels that have all that the program asks for
_OTHER_LOCALS: Final = 1024  # listeners, and IP addresses: where packets arrive besides relayed transport addresses
_KEYS_AT_ONCE: Final = 512  # read by one call; buckets of the kernel's hash tables hold one or two
_FIRST_REASON: Final = 2  # JOINED, in `enum reason`
_FIRST_DROP: Final = _FIRST_REASON + len(Passed)
_DROPS: Final = (Drop.BANDWIDTH, Drop.PEER_RATE, Drop.SEND_FAILED)  # the order is that of `enum drop`
_NANOSECONDS: Final = 1_000_000_000
_ETHERNET: Final = 1  # ARPHRD_ETHER
_SIOCGIFHWADDR: Final = 0x8927
_MISSING_RIGHTS: Final = "not permitted: it needs CAP_BPF and CAP_NET_ADMIN"


class KernelProgram:
    """A loaded and attached program with its tables. Use `load`; after `close` everything raises OffloadFailed."""

    crosses_families: Final = True  # a packet of one address family may leave as one of the other

    def __init__(
        self,
        maps: Mapping[str, syscalls.Map],
        egress: Egress,
        memory: mmap.mmap,
        program: int,
        hook: Hook,
        attached: contextlib.ExitStack,
        *,
        interfaces: int,
        shares_listeners: bool,
    ) -> None:
        self.hook = hook
        self.descriptor = program  # of the program, for BPF_PROG_TEST_RUN
        self._maps = dict(maps)
        self._egress = egress
        self._secret = os.urandom(16)
        self._tells_interfaces_apart = interfaces > 1
        self._shares_listeners = shares_listeners
        self._locals_used: dict[bytes, int] = {}
        self._most_locals = len(memory) // layout.SLOT_BYTES + _OTHER_LOCALS
        self._keys: set[bytes] = set()  # of the flows that have been set
        self._attached = attached
        self._memory = attached.enter_context(memoryview(memory).cast("Q"))

    @classmethod
    def load(
        cls,
        interfaces: Sequence[str],
        *,
        flows: int,
        slots: int,
        hook: Hook = Hook.TCX,
        shares_listeners: bool = False,
    ) -> "KernelProgram":
        """Load the program and attach it to interfaces of this network namespace, where packets come in.

        Args:
            interfaces: names of Ethernet interfaces: those that clients and peers are reached by. With VLANs, bonds
                and bridges it is the interface that has the IP address. Without any it is only seen whether the
                kernel takes the program.
            flows: how many may stand in the kernel at a time; 230 bytes each, taken at once.
            slots: relayed transport addresses; 210 bytes each, taken at once.
            hook: where packets are taken.
            shares_listeners: whether other workers listen at the same addresses, with programs of their own.

        Raises:
            OffloadUnavailable: in one line, why not.
        """
        if not (0 < flows <= layout.MAX_FLOWS and 0 < slots <= layout.MAX_SLOTS):
            raise ValueError("a table of impossible size")
        read = _read_object()
        _check_interfaces(interfaces, hook)
        sizes = {"flows": flows, "locals": slots + _OTHER_LOCALS, "slots": slots, "events": _FIRST_DROP + len(_DROPS)}
        with contextlib.ExitStack() as opened:
            maps = _make_maps(read, sizes, opened)
            program = _load_program(read, maps, hook)
            opened.callback(os.close, program)
            try:
                egress = Egress()
            except OSError as error:
                raise OffloadUnavailable(f"cannot ask for routes: {error.strerror}") from error
            opened.callback(egress.close)
            memory = _memory_of(maps["slots"], slots)
            opened.callback(memory.close)
            if hook is Hook.TCX:
                _check_tcx()
            for name in interfaces:
                opened.callback(os.close, _attach(program, name, hook))
            return cls(
                maps,
                egress,
                memory,
                program,
                hook,
                opened.pop_all(),
                interfaces=len(interfaces),
                shares_listeners=shares_listeners,
            )

    def set_flow(self, way: Way, onward: Onward) -> None:
        """Create or replace a flow.

        Raises:
            TableFull: there is no room; an older one of this way stands as it was.
            Unroutable: no way leads there, or back; an older one of this way is removed.
            OffloadFailed: the kernel refused it for any other reason.
        """
        key = layout.encode_way(way)
        hop, arrives = NOWHERE, 0
        try:
            if not onward.meets:
                hop = self._egress.next_hop(onward.source.ip, onward.destination.ip)
            if self._tells_interfaces_apart and way.kind is not Kind.MEET:
                arrives = self._egress.next_hop(way.local.ip, way.remote.ip).interface
        except Unroutable:
            self.remove_flow(way)
            raise
        value = layout.encode_onward(key, onward, hop, self._secret, arrives=arrives)
        with _told("set a flow"):
            self._table("flows").set(key, value)
        if key not in self._keys:
            self._keys.add(key)
            self._use(way)

    def remove_flow(self, way: Way) -> None:
        """Remove a flow; one that is missing is no error.

        Raises:
            OffloadFailed: the kernel refused it: the flow may still stand.
        """
        key = layout.encode_way(way)
        with _told("remove a flow"):
            self._table("flows").remove(key)
        if key in self._keys:
            self._keys.remove(key)
            self._disuse(way)

    def flows(self) -> Iterator[Way]:
        """What stands in the kernel; a step may be taken at any time, what is set or removed meanwhile may be missed.

        Raises:
            OffloadFailed: the kernel does not tell.
        """
        keys = self._table("flows").keys(_KEYS_AT_ONCE)
        while True:
            with _told("read the flows"):
                self._table("flows")  # not closed in the meantime
                key = next(keys, None)
            if key is None:
                return
            yield layout.decode_way(key)

    def routes_changed(self) -> bool:
        """Whether interfaces of flows may be others since this was asked last: each then wants to be set anew."""
        self._table("flows")
        return self._egress.has_changed()

    def open_slot(self, slot: int, limits: Limits) -> None:
        """Zero the counters of a relayed transport address and fill its buckets; no flow may refer to it yet."""
        words, at = self._words(), slot * layout.SLOT_WORDS
        for word in range(at, at + layout.SLOT_WORDS):
            words[word] = 0
        self.set_limits(slot, limits)

    def set_limits(self, slot: int, limits: Limits) -> None:
        """Change what a relayed transport address may carry; what was overdrawn before remains to be paid back."""
        per_byte, per_packet = layout.costs(limits)
        words, at = self._words(), slot * layout.SLOT_WORDS
        words[at + layout.TO_PEER_BYTE_COST] = per_byte
        words[at + layout.TO_CLIENT_BYTE_COST] = per_byte
        words[at + layout.TO_CLIENT_PACKET_COST] = per_packet

    def traffic(self, slot: int) -> Traffic:
        """What has been relayed since the slot was opened. Costs no system call: the table lies in our memory, too."""
        words, at = self._words(), slot * layout.SLOT_WORDS
        return Traffic(
            words[at + layout.PACKETS_TO_PEER],
            words[at + layout.BYTES_TO_PEER],
            words[at + layout.PACKETS_TO_CLIENT],
            words[at + layout.BYTES_TO_CLIENT],
        )

    def heard_at(self, slot: int) -> float:
        """When the client of a slot was heard by a flow, in seconds of the monotonic clock, to one second; else 0."""
        return self._words()[slot * layout.SLOT_WORDS + layout.CLIENT_HEARD_AT] / _NANOSECONDS

    def drops(self) -> Mapping[Drop, int]:
        """What the program itself has dropped, over all slots."""
        return {drop: self._events(_FIRST_DROP + at) for at, drop in enumerate(_DROPS)}

    def passed(self) -> Mapping[str, int]:
        """How many packets for addresses of flows went up to user space, by the reason (`Passed`)."""
        return {reason.value: self._events(_FIRST_REASON + at) for at, reason in enumerate(Passed)}

    def close(self) -> None:
        """Detach at once, and give all tables back. A second time it does nothing."""
        self._maps.clear()
        self._attached.close()

    def _table(self, name: str) -> syscalls.Map:
        table = self._maps.get(name)
        if table is None:
            raise OffloadFailed("it has been closed")
        return table

    def _words(self) -> memoryview:
        self._table("slots")
        return self._memory

    def _events(self, kind: int) -> int:
        with _told("read its counters"):
            value = self._table("events").get(kind.to_bytes(4, "little"))
        return sum(memoryview(value).cast("Q"))  # a number for each processor

    def _use(self, way: Way) -> None:
        """Name the addresses where packets of a flow arrive; those beyond the bound are only not counted."""
        for key in _local_keys(way):
            count = self._locals_used.get(key, 0)
            if not count:
                if len(self._locals_used) >= self._most_locals:
                    continue
                is_shared = self._shares_listeners and way.kind is not Kind.PEER
                with _told("name an address"):
                    self._table("locals").set(key, is_shared.to_bytes(4, "little"))
            self._locals_used[key] = count + 1

    def _disuse(self, way: Way) -> None:
        for key in _local_keys(way):
            count = self._locals_used.get(key, 0)
            if count > 1:
                self._locals_used[key] = count - 1
            elif count:
                del self._locals_used[key]
                with _told("forget an address"):
                    self._table("locals").remove(key)


def _local_keys(way: Way) -> tuple[bytes, ...]:
    """The transport address where packets arrive, and its IP address, which is all that is known of a fragment."""
    if way.kind is Kind.MEET:
        return ()
    return layout.encode_local(way.local.ip, way.local.port), layout.encode_local(way.local.ip, 0)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise TableFull("there is no room for another flow") from error
        raise OffloadFailed(f"cannot {what}: {error.strerror}") from error


def _read_object() -> ObjectFile:
    if not syscalls.is_supported():
        raise OffloadUnavailable("only built for Linux on x86-64 and aarch64")
    try:
        read = read_object(OBJECT.read_bytes())
        digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise OffloadUnavailable("the kernel program is not built: make native") from error
    except (OSError, BadObject) as error:
        raise OffloadUnavailable(f"the kernel program cannot be read: {error}") from error
    if read.sections.get("source", b"").rstrip(b"\0") != digest.encode():
        raise OffloadUnavailable("the kernel program was built of other sources: make native")
    return read


def _check_interfaces(interfaces: Sequence[str], hook: Hook) -> None:
    for name in interfaces:
        if _hardware_type(name) != _ETHERNET:
            raise OffloadUnavailable(f"{name} is no Ethernet interface")
        if hook is Hook.XDP:
            _check_forwarding(name)


def _hardware_type(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16s24x", name.encode()[:15])  # struct ifreq
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)
        except OSError as error:
            raise OffloadUnavailable(f"no network interface {name!r}") from error
    kind: int = struct.unpack_from("=H", answer, 16)[0]
    return kind


def _check_forwarding(name: str) -> None:
    """For XDP the kernel tells ways only on interfaces that it forwards from; to switch that on is not for us."""
    for family in ("ipv4", "ipv6"):
        switch = Path("/proc/sys/net") / family / "conf" / name / "forwarding"
        if switch.exists() and switch.read_text().strip() != "1":
            raise OffloadUnavailable(f"XDP needs net.{family}.conf.{name}.forwarding=1")


def _make_maps(read: ObjectFile, sizes: Mapping[str, int], opened: contextlib.ExitStack) -> dict[str, syscalls.Map]:
    made: dict[str, syscalls.Map] = {}
    expected = {
        "flows": (layout.WAY_BYTES, layout.ONWARD_BYTES),
        "locals": (layout.LOCAL_BYTES, 4),
        "slots": (4, layout.SLOT_BYTES),
        "events": (4, 8),
    }
    for name, entries in sizes.items():
        definition = read.maps[name]
        sizes_of = definition.key_bytes, definition.value_bytes
        if sizes_of != expected[name]:
            raise OffloadUnavailable(f"the kernel program has another table {name!r}: make native")
        try:
            descriptor = syscalls.create_map(definition.type, *sizes_of, entries, definition.flags, f"turn_{name}")
        except PermissionError as error:
            raise OffloadUnavailable(_MISSING_RIGHTS) from error
        except OSError as error:
            raise OffloadUnavailable(f"the kernel makes no table of {entries} {name}: {error.strerror}") from error
        processors = _possible_processors() if name == "events" else 1
        table = made[name] = syscalls.Map(descriptor, sizes_of[0], sizes_of[1] * processors)
        opened.callback(table.close)
    return made


def _memory_of(table: syscalls.Map, slots: int) -> mmap.mmap:
    try:
        return mmap.mmap(table.descriptor, slots * layout.SLOT_BYTES)
    except OSError as error:
        raise OffloadUnavailable(f"cannot map the table of slots: {error.strerror}") from error


def _check_tcx() -> None:
    """Older kernels take the program, and refuse only to attach it."""
    try:
        syscalls.query(socket.if_nametoindex("lo"), syscalls.ATTACH_TCX_INGRESS)
    except FileNotFoundError:  # nothing is attached there
        return
    except OSError as error:
        raise OffloadUnavailable(f"the kernel has no tcx; it has to be {_OLDEST[Hook.TCX]} or newer") from error


def _load_program(read: ObjectFile, maps: Mapping[str, syscalls.Map], hook: Hook) -> int:
    kind, attach_type, _ = _HOOKS[hook]
    code = read.programs[hook.value].linked({name: table.descriptor for name, table in maps.items()})
    try:
        return syscalls.load_program(kind, attach_type, code, read.licence, "turn_relay")
    except OSError as error:
        if error.errno == errno.EPERM:
            raise OffloadUnavailable(_MISSING_RIGHTS) from error
        oldest = _OLDEST[hook]
        raise OffloadUnavailable(f"the kernel refuses the program ({error.strerror}); it needs {oldest}") from error


def _attach(program: int, name: str, hook: Hook) -> int:
    _, attach_type, flags = _HOOKS[hook]
    try:
        return syscalls.attach(program, socket.if_nametoindex(name), attach_type, flags)
    except PermissionError as error:
        raise OffloadUnavailable(_MISSING_RIGHTS) from error
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise OffloadUnavailable(f"another program is attached to {name} by {hook.value}") from error
        if error.errno == errno.EOPNOTSUPP:
            raise OffloadUnavailable(f"the driver of {name} does not know {hook.value}") from error
        oldest = _OLDEST[hook]
        reason = f"cannot attach to {name} by {hook.value} ({error.strerror}); the kernel has to be {oldest} or newer"
        raise OffloadUnavailable(reason) from error


def _possible_processors() -> int:
    """How many processors the kernel keeps values of a per-CPU map for, those that are not there included."""
    try:
        ranges = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
        ends = [[int(end) for end in one.split("-")] for one in ranges]
    except (OSError, ValueError) as error:
        raise OffloadUnavailable("the kernel does not tell how many processors there may be") from error
    return sum(end[-1] - end[0] + 1 for end in ends)

"""What relay workers count in together: ports, quotas and reservations in one piece of shared memory.

The supervisor creates it and hands it to the workers by descriptor. Every operation runs under one record lock of the
file, which the kernel releases when its holder dies. What a worker writes without journal is its own (its ports, its
column of the quota, its reservations): if it dies half-way, `clear_worker` takes all of that back. Only to redeem
another worker's reservation changes things of two workers; that writes what was there before to a journal first, and
whoever takes the lock next undoes what was left unfinished.
"""

import fcntl
import hashlib
import hmac
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self

from relay.errors import AllocationQuotaReached, InsufficientCapacity
from relay.ledger import Ledger
from relay.port_pool import ENTROPY_BYTES, FREE, draw_free, share_of
from relay.reservation import LIFETIME, TOKEN_BYTES, Reservation

MAX_WORKERS: Final = 64

_HEADER: Final = struct.Struct("=8sHHHBBB16s")  # magic, workers, first, last, share, family of each row, hash key
_MAGIC: Final = b"rcledg02"
_JOURNAL_OFFSET: Final = 64
_JOURNAL_BYTES: Final = 448
_TABLES_OFFSET: Final = _JOURNAL_OFFSET + _JOURNAL_BYTES
_SPAN: Final = struct.Struct("=IB")  # offset, size; what was there follows
_RECORD: Final = struct.Struct("=8sd16s")  # token, expires_at, holder
_DIGEST_BYTES: Final = 16
_NO_KEY: Final = bytes(_DIGEST_BYTES)
_CIRCLE_BYTES: Final = 8
_NO_CIRCLE: Final = bytes(_CIRCLE_BYTES)
_BUCKET: Final = 64  # quota slots that a holder may lie in: twice what is used when every port has its own holder
_MAX_COUNT: Final = 0xFFFF
_INDEX_BITS: Final = 17  # of a token: two families of 65536 ports
_INDEX_MASK: Final = (1 << _INDEX_BITS) - 1
_MAX_KEYS: Final = 4  # under which the quota counts one port


class Geometry(NamedTuple):
    """What decides the layout; fixed for as long as the supervisor lives."""

    workers: int
    first: int  # lowest relayed port
    last: int  # highest relayed port
    share_percent: int
    families: tuple[int, ...]

    def part(self, worker: int) -> tuple[int, int]:
        """Index of the first port of a worker's part, and of the first behind it.

        Parts begin at even ports, so that no pair is cut in two.
        """
        size = self.last - self.first + 1

        def begin(number: int) -> int:
            if number in {0, self.workers}:
                return size * number // self.workers
            return (self.first + size * number // self.workers) // 2 * 2 - self.first

        return begin(worker), begin(worker + 1)


class SharedLedger:
    """The shared memory and its lock. `ledger` is what a worker counts in."""

    def __init__(self, descriptor: int, geometry: Geometry, key: bytes) -> None:
        """Map memory that `create` or `open` has prepared."""
        self.descriptor = descriptor
        self.geometry = geometry
        self.key = key
        layout = _Layout(geometry)
        self.memory = mmap.mmap(descriptor, layout.size)
        self._view = memoryview(self.memory)
        self._layout = layout
        self.counts = self._view[layout.counts : layout.counts + 2 * geometry.workers * layout.slots].cast("H")
        self.held = self._view[layout.held : layout.held + 4 * geometry.workers * len(geometry.families)].cast("I")
        self.slots = layout.slots
        self.ports_size = layout.ports_size
        self._rows = {family: row for row, family in enumerate(geometry.families)}

    @classmethod
    def create(cls, geometry: Geometry) -> Self:
        """Make the memory; nothing is taken yet.

        Raises:
            ValueError: there are too few ports for so many workers.
            OSError: no memory.
        """
        parts = [geometry.part(worker) for worker in range(geometry.workers)]
        if not 1 <= geometry.workers <= MAX_WORKERS or any(end - begin < 2 for begin, end in parts):
            raise ValueError(f"{geometry.last - geometry.first + 1} ports are too few for {geometry.workers} workers")
        descriptor = os.memfd_create("redconnect-ledger", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, _Layout(geometry).size)
            key = os.urandom(_DIGEST_BYTES)
            rows = (*geometry.families, 0)[:2]
            header = _HEADER.pack(
                _MAGIC, geometry.workers, geometry.first, geometry.last, geometry.share_percent, *rows, key
            )
            os.pwrite(descriptor, header, 0)
            return cls(descriptor, geometry, key)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def open(cls, descriptor: int) -> Self:
        """Map the memory that a supervisor made.

        Raises:
            ValueError: it is something else.
        """
        header = os.pread(descriptor, _HEADER.size, 0)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise ValueError("this is no ledger")
        _magic, workers, first, last, share, *rows, key = _HEADER.unpack(header)
        families = tuple(family for family in rows if family)
        return cls(descriptor, Geometry(workers, first, last, share, families), key)

    def close(self) -> None:
        """Unmap and close; what others have mapped stays."""
        for view in (self.counts, self.held, self._view):
            view.release()
        self.memory.close()
        os.close(self.descriptor)

    def ledger(self, worker: int, entropy: Callable[[int], bytes]) -> Ledger:
        """What one worker counts in."""
        ports = {family: SharedPorts(self, worker, family, entropy) for family in self.geometry.families}
        return Ledger(ports, SharedQuota(self, worker), SharedReservations(self, worker, entropy))

    def is_relayed_by_another(self, worker: int, family: int, port: int, circle: str = "") -> bool:
        """Whether another worker relays at this port for a client of this circle, or holds it; takes no lock."""
        index = port - self.geometry.first
        row = self._rows.get(family)
        if row is None or not 0 <= index < self.ports_size:
            return False
        place = row * self.ports_size + index
        if self.memory[self._layout.ports + place] in {FREE, worker + 1}:
            return False
        at = self._layout.circles + place * _CIRCLE_BYTES
        return self.memory[at : at + _CIRCLE_BYTES] == self._circle(circle)

    def write_circle(self, family: int, port: int, circle: str) -> None:
        """Say which relayed clients may meet at a port, before one that holds it can be reached there."""
        place = self._rows[family] * self.ports_size + port - self.geometry.first
        at = self._layout.circles + place * _CIRCLE_BYTES
        mark = self._circle(circle)
        if self.memory[at : at + _CIRCLE_BYTES] != mark:  # untouched pages stay unused
            self.memory[at : at + _CIRCLE_BYTES] = mark

    def count_free(self, family: int) -> int:
        """Ports of a family that no worker holds."""
        begin = self.port_offset(family, 0)
        return self.memory[begin : begin + self.ports_size].count(FREE)

    def clear_worker(self, worker: int) -> None:
        """Take back everything that a worker which has ended held.

        Raises:
            BlockingIOError: another worker is in the middle of an operation; to be tried again.
        """
        layout, geometry = self._layout, self.geometry
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # once it is ours, taking it again does not wait
        with self:
            mine_to_free = bytearray(range(256))
            mine_to_free[worker + 1] = FREE
            for begin in (layout.ports, layout.owners):
                span = slice(begin, begin + len(geometry.families) * self.ports_size)
                before = self.memory[span]
                after = before.translate(mine_to_free)
                if after != before:  # untouched pages stay unused
                    self.memory[span] = after
            for row in range(len(geometry.families)):
                self.held[row * geometry.workers + worker] = 0
            begin = layout.counts + 2 * worker * self.slots
            empty = bytes(2 * self.slots)
            if self.memory[begin : begin + len(empty)] != empty:
                self.memory[begin : begin + len(empty)] = empty

    # For the parts below

    def __enter__(self) -> None:
        """Hold the lock; what a dead process left unfinished is undone first."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        if self.memory[_JOURNAL_OFFSET]:
            self._undo()

    def __exit__(self, *_error: object) -> None:
        """Release the lock."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def row(self, family: int) -> int:
        """Where a family stands in the tables."""
        return self._rows[family]

    def port_offset(self, family: int, index: int) -> int:
        """Where the state of a port is."""
        return self._layout.ports + self._rows[family] * self.ports_size + index

    def owner_offset(self, place: int) -> int:
        """Where the owner of a reservation is, as worker + 1; 0 without a reservation."""
        return self._layout.owners + place

    def record_offset(self, place: int) -> int:
        """Where token, expiry and holder of a reservation are."""
        return self._layout.records + place * _RECORD.size

    def digest(self, holder: str) -> bytes:
        """What stands for a holder in the memory; unpredictable, so nobody can choose names that crowd a bucket."""
        return hashlib.blake2b(holder.encode(), digest_size=_DIGEST_BYTES, key=self.key).digest()

    def find_slot(self, digest: bytes) -> int | None:
        """The quota slot of a holder."""
        bucket = self._bucket(digest)
        begin = self._layout.keys + bucket * _DIGEST_BYTES
        keys = self.memory[begin : begin + _BUCKET * _DIGEST_BYTES]
        at = keys.find(digest)
        while at % _DIGEST_BYTES and at != -1:
            at = keys.find(digest, at + 1)
        return None if at == -1 else bucket + at // _DIGEST_BYTES

    def claim_slot(self, digest: bytes) -> int | None:
        """A quota slot for a holder that has none, or None if its bucket is full of others."""
        bucket = self._bucket(digest)
        slot = self._find_room(bucket)
        if slot is not None:
            self._write_key(slot, digest)
        return slot

    def _find_room(self, bucket: int) -> int | None:
        """A slot that counts nothing: one without key, else one whose counts were those of workers that died."""
        begin = self._layout.keys + bucket * _DIGEST_BYTES
        keys = self.memory[begin : begin + _BUCKET * _DIGEST_BYTES]
        offsets = range(0, len(keys), _DIGEST_BYTES)
        for offset in offsets:
            if keys[offset] == 0 and keys[offset : offset + _DIGEST_BYTES] == _NO_KEY:
                return bucket + offset // _DIGEST_BYTES
        return next((slot for slot in range(bucket, bucket + _BUCKET) if self.sum_counts(slot) == 0), None)

    def free_slot(self, slot: int) -> None:
        """Let another holder have a slot that counts nothing."""
        self._write_key(slot, _NO_KEY)

    def sum_counts(self, slot: int) -> int:
        """What all workers together count in a slot."""
        return sum(self.counts[slot :: self.slots])

    def write_journal(self, spans: Sequence[tuple[int, int]]) -> None:
        """Remember what stands at these offsets (and sizes), until `clear_journal`."""
        saved = b"".join(_SPAN.pack(at, size) + self.memory[at : at + size] for at, size in spans)
        self.memory[_JOURNAL_OFFSET + 1 : _JOURNAL_OFFSET + 1 + len(saved)] = saved
        self.memory[_JOURNAL_OFFSET] = len(spans)  # from here on it is valid

    def clear_journal(self) -> None:
        """What the journal was for is done."""
        self.memory[_JOURNAL_OFFSET] = 0

    def count_span(self, worker: int, slot: int) -> tuple[int, int]:
        """Offset and size of a count."""
        return self._layout.counts + 2 * (worker * self.slots + slot), 2

    def held_span(self, worker: int, family: int) -> tuple[int, int]:
        """Offset and size of the number of ports that a worker holds."""
        return self._layout.held + 4 * (self._rows[family] * self.geometry.workers + worker), 4

    def _undo(self) -> None:
        at = _JOURNAL_OFFSET + 1
        for _ in range(self.memory[_JOURNAL_OFFSET]):
            offset, size = _SPAN.unpack(self.memory[at : at + _SPAN.size])
            at += _SPAN.size
            self.memory[offset : offset + size] = self.memory[at : at + size]
            at += size
        self.clear_journal()

    def _circle(self, circle: str) -> bytes:
        return self.digest(circle)[:_CIRCLE_BYTES] if circle else _NO_CIRCLE

    def _bucket(self, digest: bytes) -> int:
        return int.from_bytes(digest[:4]) % (self.slots // _BUCKET) * _BUCKET

    def _write_key(self, slot: int, digest: bytes) -> None:
        at = self._layout.keys + slot * _DIGEST_BYTES
        self.memory[at : at + _DIGEST_BYTES] = digest


class SharedPorts:
    """The relayed ports of one family, as one worker sees them: it takes from its own part only.

    A port may lie in the part of another worker if its reservation was redeemed here.
    """

    def __init__(self, shared: SharedLedger, worker: int, family: int, entropy: Callable[[int], bytes]) -> None:
        geometry = shared.geometry
        self._shared = shared
        self._mark = worker + 1
        self._entropy = entropy
        self._first = geometry.first
        self._begin, end = geometry.part(worker)
        self._size = end - self._begin
        self._offset = shared.port_offset(family, 0)
        self._family = family
        self._counter = shared.row(family) * geometry.workers + worker
        self.limit = share_of(self._size, geometry.share_percent)

    @property
    def taken(self) -> int:
        """Ports held by this worker's allocations and reservations."""
        return self._shared.held[self._counter]

    def take(self) -> int:
        """A free port, unpredictable for a stranger.

        Raises:
            InsufficientCapacity: none may be taken any more.
        """
        return self._take(even=False, count=1)

    def take_even(self, *, with_next: bool) -> int:
        """A free even port (RFC 8656 §7.2, EVEN-PORT); `with_next` takes the odd port above it, too.

        Raises:
            InsufficientCapacity: there is no such port.
        """
        return self._take(even=True, count=2 if with_next else 1)

    def enclose(self, port: int, circle: str) -> None:
        """Let the other workers know which of their clients may send to a port that this worker took."""
        self._shared.write_circle(self._family, port, circle)

    def give_back(self, port: int) -> None:
        """Return a port that this worker took, or redeemed.

        Raises:
            ValueError: it did not; somebody counts wrong.
        """
        shared, index = self._shared, port - self._first
        with shared:
            if not 0 <= index < shared.ports_size or shared.memory[self._offset + index] != self._mark:
                raise ValueError(f"port {port} was not taken")
            shared.memory[self._offset + index] = FREE
            shared.held[self._counter] -= 1

    def _take(self, *, even: bool, count: int) -> int:
        shared = self._shared
        begin = self._offset + self._begin
        with shared:
            if shared.held[self._counter] + count > self.limit:
                raise InsufficientCapacity("ports_exhausted")
            state = shared.memory[begin : begin + self._size]
            first = self._first + self._begin
            index = draw_free(state, first, self._entropy(ENTROPY_BYTES), even=even, count=count)
            shared.memory[begin + index : begin + index + count] = bytes((self._mark,)) * count
            shared.held[self._counter] += count
        return first + index


class SharedQuota:
    """Counts held ports by holder: each worker in a column of its own, the sum is what the limit is for."""

    def __init__(self, shared: SharedLedger, worker: int) -> None:
        self._shared = shared
        self._column = worker * shared.slots

    def reserve(self, holder: str, limit: int, count: int = 1) -> None:
        """Count more ports for this holder, all or none; whoever reserves must release each.

        Raises:
            AllocationQuotaReached: the holder would have more than the limit, or there is no room to count.
        """
        shared = self._shared
        digest = shared.digest(holder)
        with shared:
            slot = shared.find_slot(digest)
            if (0 if slot is None else shared.sum_counts(slot)) + count > limit:
                raise AllocationQuotaReached("user_quota")
            if slot is None:
                slot = shared.claim_slot(digest)
            if slot is None or shared.counts[self._column + slot] + count > _MAX_COUNT:
                raise AllocationQuotaReached("quota_table_full")
            shared.counts[self._column + slot] += count

    def release(self, holder: str, count: int = 1) -> None:
        """Give back ports that this worker counted.

        Raises:
            KeyError: it counted fewer.
        """
        shared = self._shared
        digest = shared.digest(holder)
        with shared:
            slot = shared.find_slot(digest)
            if slot is None or shared.counts[self._column + slot] < count:
                raise KeyError(holder)
            shared.counts[self._column + slot] -= count
            if shared.sum_counts(slot) == 0:
                shared.free_slot(slot)

    def held(self, holder: str) -> int:
        """Ports that all workers count for this holder."""
        shared = self._shared
        digest = shared.digest(holder)
        with shared:
            slot = shared.find_slot(digest)
            return 0 if slot is None else shared.sum_counts(slot)


class SharedReservations:
    """Reserved ports, redeemed by any worker; the worker that made one forgets it when its time is over.

    There is room for a reservation at every port, and the token says at which: nothing to search, nothing to overflow.
    The other 47 bits of a token are random, and it serves its holder alone.
    """

    def __init__(self, shared: SharedLedger, worker: int, entropy: Callable[[int], bytes]) -> None:
        self._shared = shared
        self._worker = worker
        self._mark = worker + 1
        self._entropy = entropy
        self._made: dict[int, tuple[bytes, Reservation]] = {}  # by place; in order of expiry, as all live equally long

    def add(self, family: int, port: int, holder: str, now: float) -> bytes:
        """Hold a taken port for 30 seconds and return the token that redeems it."""
        shared = self._shared
        place = shared.row(family) * shared.ports_size + port - shared.geometry.first
        token = (int.from_bytes(self._entropy(TOKEN_BYTES)) & ~_INDEX_MASK | place).to_bytes(TOKEN_BYTES)
        reservation = Reservation(family, port, holder, now + LIFETIME)
        with shared:
            at = shared.record_offset(place)
            record = _RECORD.pack(token, reservation.expires_at, shared.digest(holder))
            shared.memory[at : at + _RECORD.size] = record
            shared.memory[shared.owner_offset(place)] = self._mark
        self._made.pop(place, None)  # redeemed elsewhere: the new one goes to the end
        self._made[place] = (token, reservation)
        return token

    def redeem(self, token: bytes, holder: str, now: float, also_counted: Sequence[str] = ()) -> Reservation:
        """Hand the port, and its place in the quota, over to this worker.

        Args:
            token: what the client brought.
            holder: who brought it.
            now: monotonic time, in seconds.
            also_counted: further keys under which the quota counts the port.

        Raises:
            InsufficientCapacity: the token is unknown, has expired or belongs to somebody else (RFC 8656 §7.2).
        """
        shared = self._shared
        place = int.from_bytes(token) & _INDEX_MASK
        if len(token) != TOKEN_BYTES or place >= len(shared.geometry.families) * shared.ports_size:
            raise InsufficientCapacity("reservation")
        with shared:
            owner = shared.memory[shared.owner_offset(place)]
            at = shared.record_offset(place)
            expected, expires_at, digest = _RECORD.unpack(shared.memory[at : at + _RECORD.size])
            if (
                not owner
                or not hmac.compare_digest(expected, token)
                or expires_at <= now
                or digest != shared.digest(holder)
            ):
                raise InsufficientCapacity("reservation")
            row, index = divmod(place, shared.ports_size)
            family = shared.geometry.families[row]
            if owner == self._mark:
                shared.memory[shared.owner_offset(place)] = 0
                self._made.pop(place, None)
            else:
                self._take_over(owner - 1, place, family, (holder, *also_counted)[:_MAX_KEYS])
        return Reservation(family, shared.geometry.first + index, holder, expires_at)

    def expire(self, now: float) -> list[Reservation]:
        """Forget what this worker reserved and nobody redeemed, and return it: the ports are to be given back."""
        shared = self._shared
        expired = []
        for place, (token, reservation) in list(self._made.items()):
            if reservation.expires_at > now:
                break
            del self._made[place]
            with shared:
                at = shared.record_offset(place)
                is_ours = shared.memory[shared.owner_offset(place)] == self._mark
                if is_ours and shared.memory[at : at + TOKEN_BYTES] == token:
                    shared.memory[shared.owner_offset(place)] = 0
                    expired.append(reservation)
        return expired

    def next_at(self) -> float | None:
        """When the oldest reservation of this worker expires."""
        if not self._made:
            return None
        return next(iter(self._made.values()))[1].expires_at

    def __len__(self) -> int:
        return len(self._made)

    def _take_over(self, owner: int, place: int, family: int, holders: Sequence[str]) -> None:
        """Make a port and its counts ours, all or nothing, whenever this process may die."""
        shared, geometry = self._shared, self._shared.geometry
        index = place % shared.ports_size
        slots = [slot for slot in map(shared.find_slot, map(shared.digest, holders)) if slot is not None]
        spans = [(shared.owner_offset(place), 1), (shared.port_offset(family, index), 1)]
        spans += [shared.held_span(worker, family) for worker in (owner, self._worker)]
        spans += [shared.count_span(worker, slot) for slot in slots for worker in (owner, self._worker)]
        shared.write_journal(spans)
        shared.memory[shared.owner_offset(place)] = 0
        shared.memory[shared.port_offset(family, index)] = self._mark
        counter = shared.row(family) * geometry.workers
        shared.held[counter + owner] -= 1
        shared.held[counter + self._worker] += 1
        for slot in slots:
            shared.counts[owner * shared.slots + slot] -= 1
            shared.counts[self._worker * shared.slots + slot] += 1
        shared.clear_journal()


class _Layout:
    """Offsets of the tables, in bytes. The memory of what is never touched is never used."""

    def __init__(self, geometry: Geometry) -> None:
        self.ports_size = geometry.last - geometry.first + 1
        places = len(geometry.families) * self.ports_size
        self.slots = _BUCKET
        while self.slots < 2 * places:  # half full when every port has a holder of its own
            self.slots *= 2
        self.held = _TABLES_OFFSET
        self.counts = _aligned(self.held + 4 * geometry.workers * len(geometry.families))
        self.keys = _aligned(self.counts + 2 * geometry.workers * self.slots)
        self.records = _aligned(self.keys + _DIGEST_BYTES * self.slots)
        self.ports = _aligned(self.records + _RECORD.size * places)
        self.owners = _aligned(self.ports + places)
        self.circles = _aligned(self.owners + places)
        self.size = self.circles + _CIRCLE_BYTES * places


def _aligned(offset: int) -> int:
    return (offset + 7) // 8 * 8

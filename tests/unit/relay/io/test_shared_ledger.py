import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.errors import AllocationQuotaReached, InsufficientCapacity
from relay.io.shared_ledger import Geometry, SharedLedger
from relay.reservation import LIFETIME, Reservation
from stun.address import IPV4, IPV6
from tests.support.service import ROOT

FAMILIES = (IPV4, IPV6)
REALM = "realm"
USER_LIMIT, REALM_LIMIT = 4, 9
NEVER = 1_000_000


class Killed(Exception):
    """The worker's process ends here."""


class Life:
    """How many more writes a worker lives to make."""

    def __init__(self) -> None:
        self.writes_left = NEVER

    def spend(self) -> None:
        if self.writes_left == 0:
            raise Killed
        self.writes_left -= 1


class MortalMemory:
    """Memory whose writer may die before any write."""

    def __init__(self, memory: Any, life: Life) -> None:  # noqa: ANN401
        self._memory = memory
        self._life = life

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401
        return self._memory[key]

    def __setitem__(self, key: Any, value: Any) -> None:  # noqa: ANN401
        self._life.spend()
        self._memory[key] = value

    def close(self) -> None:
        self._memory.close()

    def release(self) -> None:
        self._memory.release()


class Held(NamedTuple):
    """A port that a client of a worker has."""

    worker: int
    family: int
    port: int
    user: str


class Reserved(NamedTuple):
    """A port that waits."""

    worker: int
    family: int
    port: int
    user: str
    token: bytes
    expires_at: float


class LedgerMachine(RuleBasedStateMachine):
    """Three workers that allocate, reserve, redeem and die at any write, beside lists that say what must be."""

    @initialize(first=st.integers(1024, 1027), size=st.integers(9, 24), share=st.integers(30, 100))
    def build(self, first: int, size: int, share: int) -> None:
        self.geometry = Geometry(3, first, first + size - 1, share, FAMILIES)
        self.shared = SharedLedger.create(self.geometry)
        self.life = Life()
        for name in ("memory", "counts", "held"):
            setattr(self.shared, name, MortalMemory(getattr(self.shared, name), self.life))
        self.workers = [self.shared.ledger(worker, os.urandom) for worker in range(3)]
        self.held: list[Held] = []
        self.reserved: list[Reserved] = []
        self.now = 100.0

    def teardown(self) -> None:
        if hasattr(self, "shared"):
            self.shared.close()

    def counted(self) -> list[Held | Reserved]:
        return [*self.held, *self.reserved]

    def taken(self, worker: int, family: int) -> int:
        return sum(entry.worker == worker and entry.family == family for entry in self.counted())

    def count(self, holder: str) -> int:
        return sum(holder in {entry.user, REALM} for entry in self.counted())

    def allocate(self, worker: int, family: int, user: str, even: bool | None) -> None:  # noqa: FBT001
        """As the allocator does it."""
        ledger = self.workers[worker]
        count = 2 if even else 1
        ledger.quota.reserve(user, USER_LIMIT, count)
        try:
            ledger.quota.reserve(REALM, REALM_LIMIT, count)
            try:
                ports = ledger.ports[family]
                port = ports.take() if even is None else ports.take_even(with_next=even)
                if even:
                    token = ledger.reservations.add(family, port + 1, user, self.now)
                    self.reserved.append(Reserved(worker, family, port + 1, user, token, self.now + LIFETIME))
            except InsufficientCapacity:
                ledger.quota.release(REALM, count)
                raise
        except (InsufficientCapacity, AllocationQuotaReached):
            ledger.quota.release(user, count)
            raise
        assert not any(port == entry.port and family == entry.family for entry in self.held), "handed out twice"
        assert even is None or port % 2 == 0
        begin, end = self.geometry.part(worker)
        assert begin <= port - self.geometry.first < end
        self.held.append(Held(worker, family, port, user))

    def bury(self, worker: int) -> None:
        self.life.writes_left = NEVER
        self.shared.clear_worker(worker)
        self.workers[worker] = self.shared.ledger(worker, os.urandom)
        self.held = [entry for entry in self.held if entry.worker != worker]
        self.reserved = [entry for entry in self.reserved if entry.worker != worker]

    def mortally(self, worker: int, writes: int, step: Callable[[], None]) -> None:
        """Do something with a worker that dies before its `writes`th write, or lives."""
        self.life.writes_left = writes
        try:
            step()
            self.life.writes_left = NEVER
        except Killed:
            self.bury(worker)

    @rule(
        worker=st.integers(0, 2),
        family=st.sampled_from(FAMILIES),
        user=st.sampled_from("abc"),
        even=st.sampled_from([None, False, True]),
        writes=st.integers(0, 8) | st.just(NEVER),
    )
    def an_allocation_begins(self, worker: int, family: int, user: str, even: bool | None, writes: int) -> None:  # noqa: FBT001
        count = 2 if even else 1

        def step() -> None:
            try:
                self.allocate(worker, family, user, even)
            except AllocationQuotaReached:
                assert self.count(user) + count > USER_LIMIT or self.count(REALM) + count > REALM_LIMIT
            except InsufficientCapacity:
                begin, end = self.geometry.part(worker)
                own = range(self.geometry.first + begin, self.geometry.first + end)
                gone = {entry.port for entry in self.counted() if entry.family == family}
                free = set(own) - gone
                fits = [port for port in free if (even is None or port % 2 == 0) and (not even or port + 1 in free)]
                assert not fits or self.taken(worker, family) + count > self.workers[worker].ports[family].limit

        self.mortally(worker, writes, step)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), writes=st.integers(0, 6) | st.just(NEVER))
    def an_allocation_ends(self, data: st.DataObject, writes: int) -> None:
        entry = data.draw(st.sampled_from(self.held))
        ledger = self.workers[entry.worker]

        def step() -> None:
            ledger.ports[entry.family].give_back(entry.port)
            ledger.quota.release(entry.user)
            ledger.quota.release(REALM)
            self.held.remove(entry)

        self.mortally(entry.worker, writes, step)

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), worker=st.integers(0, 2), user=st.sampled_from("abc"), writes=st.integers(0, 16))
    def a_reservation_is_redeemed(self, data: st.DataObject, worker: int, user: str, writes: int) -> None:
        entry = data.draw(st.sampled_from(self.reserved))

        def step() -> None:
            if user != entry.user or entry.expires_at <= self.now:
                with pytest.raises(InsufficientCapacity):
                    self.workers[worker].reservations.redeem(entry.token, user, self.now, (REALM,))
                return
            found = self.workers[worker].reservations.redeem(entry.token, user, self.now, (REALM,))
            assert found == Reservation(entry.family, entry.port, user, entry.expires_at)
            self.reserved.remove(entry)
            self.held.append(Held(worker, entry.family, entry.port, user))

        self.mortally(worker, writes, step)

    @rule(worker=st.integers(0, 2), seconds=st.sampled_from([0.0, 1.0, 29.0, 31.0]))
    def time_passes(self, worker: int, seconds: float) -> None:
        self.now += seconds
        ledger = self.workers[worker]
        due = [entry for entry in self.reserved if entry.worker == worker and entry.expires_at <= self.now]
        expired = ledger.reservations.expire(self.now)
        assert {(entry.family, entry.port) for entry in due} == {(entry.family, entry.port) for entry in expired}
        for entry in expired:
            ledger.ports[entry.family].give_back(entry.port)
            ledger.quota.release(entry.holder)
            ledger.quota.release(REALM)
        self.reserved = [entry for entry in self.reserved if entry not in due]
        deadline = ledger.reservations.next_at()
        assert deadline is None or deadline > self.now
        waiting = [entry.expires_at for entry in self.reserved if entry.worker == worker]
        assert not waiting or (deadline is not None and deadline <= min(waiting))

    @rule(worker=st.integers(0, 2))
    def a_worker_dies(self, worker: int) -> None:
        self.bury(worker)

    @rule(worker=st.integers(0, 2), family=st.sampled_from(FAMILIES), port=st.integers(1000, 1060))
    def what_is_not_held_is_not_given_back(self, worker: int, family: int, port: int) -> None:
        mine = {(entry.worker, entry.family, entry.port) for entry in self.counted()}
        if (worker, family, port) not in mine:
            with pytest.raises(ValueError, match="was not taken"):
                self.workers[worker].ports[family].give_back(port)

    @invariant()
    def every_port_is_free_or_taken_and_counted(self) -> None:
        if not hasattr(self, "shared"):
            return
        size = self.geometry.last - self.geometry.first + 1
        for family in FAMILIES:
            taken = [self.workers[worker].ports[family].taken for worker in range(3)]
            assert taken == [self.taken(worker, family) for worker in range(3)]
            assert sum(taken) + self.shared.count_free(family) == size
        for holder, limit in (("a", USER_LIMIT), ("b", USER_LIMIT), ("c", USER_LIMIT), (REALM, REALM_LIMIT)):
            assert self.workers[0].quota.held(holder) == self.count(holder) <= limit

    @invariant()
    def everybody_knows_what_others_hold(self) -> None:
        if not hasattr(self, "shared"):
            return
        held = {(entry.family, entry.port): entry.worker for entry in self.counted()}
        for family in FAMILIES:
            for port in range(self.geometry.first - 1, self.geometry.last + 2):
                for worker in range(3):
                    expected = held.get((family, port), worker) != worker
                    assert self.shared.is_relayed_by_another(worker, family, port) is expected


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=30)


@pytest.fixture
def shared() -> Iterator[SharedLedger]:
    ledger = SharedLedger.create(Geometry(2, 50_000, 50_009, 80, (IPV4,)))
    yield ledger
    ledger.close()


def test_a_port_in_a_circle_is_relayed_for_that_circle_alone_and_the_next_holder_starts_anew(
    shared: SharedLedger,
) -> None:
    mine = shared.ledger(0, bytes).ports[IPV4]
    port = mine.take()
    mine.enclose(port, "a test")
    assert shared.is_relayed_by_another(1, IPV4, port, "a test")
    assert not shared.is_relayed_by_another(1, IPV4, port, "another test")
    assert not shared.is_relayed_by_another(1, IPV4, port)
    assert not shared.is_relayed_by_another(0, IPV4, port, "a test")
    shared.clear_worker(0)  # it died without giving anything back
    assert not shared.is_relayed_by_another(1, IPV4, port, "a test")
    again = shared.ledger(0, bytes).ports[IPV4]
    assert again.take() == port
    again.enclose(port, "")
    assert shared.is_relayed_by_another(1, IPV4, port)
    assert not shared.is_relayed_by_another(1, IPV4, port, "a test")


@given(workers=st.integers(1, 64), first=st.integers(1024, 60_000), size=st.integers(0, 5_000))
def test_parts_cover_the_range_without_a_gap_and_cut_no_pair(workers: int, first: int, size: int) -> None:
    geometry = Geometry(workers, first, first + size + 3 * workers - 1, 80, FAMILIES)
    parts = [geometry.part(worker) for worker in range(workers)]
    assert parts[0][0] == 0
    assert parts[-1][1] == size + 3 * workers
    for (_, end), (begin, _) in itertools.pairwise(parts):
        assert end == begin
        assert (first + begin) % 2 == 0
    assert all(end - begin >= 2 for begin, end in parts)


def test_too_few_ports_for_so_many_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="3 ports are too few for 2 workers"):
        SharedLedger.create(Geometry(2, 50_000, 50_002, 80, FAMILIES))


def test_the_shares_of_all_workers_are_the_share_of_the_range(shared: SharedLedger) -> None:
    limits = [shared.ledger(worker, os.urandom).ports[IPV4].limit for worker in range(2)]
    assert limits == [3, 4]  # 80 % of four and of six ports


def test_a_full_table_refuses_and_has_room_again_when_somebody_goes(shared: SharedLedger) -> None:
    quota = shared.ledger(0, os.urandom).quota
    for number in range(shared.slots):
        quota.reserve(f"user {number}", 1)
    with pytest.raises(AllocationQuotaReached) as caught:
        quota.reserve("one more", 1)
    assert caught.value.cause == "quota_table_full"
    quota.release("user 3")
    quota.reserve("one more", 1)
    assert quota.held("user 3") == 0
    assert quota.held("one more") == quota.held("user 4") == 1


def test_what_a_dead_worker_counted_makes_room_for_others(shared: SharedLedger) -> None:
    dead, alive = (shared.ledger(worker, os.urandom).quota for worker in range(2))
    for number in range(shared.slots):
        dead.reserve(f"user {number}", 1)
    alive.reserve("user 7", 2)
    shared.clear_worker(0)
    for number in range(shared.slots - 1):
        alive.reserve(f"other {number}", 1)
    assert alive.held("user 7") == alive.held("other 0") == 1
    with pytest.raises(AllocationQuotaReached):
        alive.reserve("one more", 1)


@given(st.binary(max_size=12))
def test_a_token_from_outside_may_be_anything(token: bytes) -> None:
    shared = SharedLedger.create(Geometry(2, 50_000, 50_009, 80, FAMILIES))
    try:
        with pytest.raises(InsufficientCapacity):
            shared.ledger(0, os.urandom).reservations.redeem(token, "alice", 0.0)
    finally:
        shared.close()


def test_tokens_are_unpredictable(shared: SharedLedger) -> None:
    reservations = shared.ledger(0, os.urandom).reservations
    tokens = Counter(reservations.add(IPV4, 50_001, "alice", 0.0) for _ in range(100))
    assert len(tokens) == 100


def test_only_the_latest_token_of_a_port_is_good(shared: SharedLedger) -> None:
    reservations = shared.ledger(0, os.urandom).reservations
    old = reservations.add(IPV4, 50_001, "alice", 0.0)
    new = reservations.add(IPV4, 50_001, "alice", 10.0)
    with pytest.raises(InsufficientCapacity):
        reservations.redeem(old, "alice", 11.0)
    assert reservations.next_at() == 40.0
    assert reservations.redeem(new, "alice", 11.0).port == 50_001
    assert reservations.next_at() is None


def test_reservations_expire_in_order_even_if_others_redeemed_some(shared: SharedLedger) -> None:
    here, there = (shared.ledger(worker, os.urandom) for worker in range(2))
    port = here.ports[IPV4].take_even(with_next=True) + 1
    here.quota.reserve("alice", 9)
    token = here.reservations.add(IPV4, port, "alice", 0.0)
    here.reservations.add(IPV4, 50_009, "bob", 10.0)
    there.reservations.redeem(token, "alice", 11.0)
    there.ports[IPV4].give_back(port)
    here.reservations.add(IPV4, port, "alice", 20.0)
    assert here.reservations.next_at() == 10.0 + LIFETIME


def test_a_holder_without_ports_is_not_remembered(shared: SharedLedger) -> None:
    quota = shared.ledger(0, os.urandom).quota
    quota.reserve("alice", 2, 2)
    quota.release("alice")
    assert shared.find_slot(shared.digest("alice")) is not None
    quota.release("alice")
    assert shared.find_slot(shared.digest("alice")) is None
    with pytest.raises(KeyError):
        quota.release("alice")


def test_another_file_is_no_ledger() -> None:
    with open("/dev/null", "rb") as file, pytest.raises(ValueError, match="no ledger"):  # noqa: PTH123
        SharedLedger.open(file.fileno())


def test_the_death_of_a_process_releases_its_lock_and_undoes_its_half_done_work(shared: SharedLedger) -> None:
    script = """
import sys
from relay.io.shared_ledger import SharedLedger
shared = SharedLedger.open(int(sys.argv[1]))
with shared:
    at = shared.port_offset(1, 0)
    shared.write_journal([(at, 1)])
    shared.memory[at] = 2
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(shared.descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[shared.descriptor],
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(BlockingIOError):
            shared.clear_worker(0)
        assert shared.count_free(IPV4) == 9
        process.send_signal(signal.SIGKILL)
    shared.clear_worker(0)
    assert shared.count_free(IPV4) == 10


# Allocates, reserves, redeems what the other one reserved, and gives back, as fast as it can, until it is killed, or
# told to give back everything. What it believes to hold it can give back, or it ends with status 1.
_RESTLESS_WORKER = """
import os, random, signal, sys, time
from relay.errors import RequestRejected
from relay.io.shared_ledger import SharedLedger

worker, descriptor, tokens_in, tokens_out = map(int, sys.argv[1:])
ports, quota, reservations = SharedLedger.open(descriptor).ledger(worker, os.urandom)
os.set_blocking(tokens_in, False)
os.set_blocking(tokens_out, False)
held = []
stopping = []
redeemed = 0
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
print("running", flush=True)

def give_back(most):
    held.extend((entry.port, entry.holder) for entry in reservations.expire(time.monotonic() if most else 1e12))
    random.shuffle(held)
    while len(held) > most:
        port, user = held.pop()
        ports[1].give_back(port)
        quota.release(user)
        quota.release("realm")

while not stopping:
    user = random.choice("01234567")
    try:
        message = os.read(tokens_in, 9 * 7000)[-9:]  # the others are too old
        entry = reservations.redeem(message[:8], message[8:].decode(), time.monotonic(), ("realm",))
        held.append((entry.port, entry.holder))
        redeemed += 1
    except (BlockingIOError, RequestRejected):
        pass
    quota.reserve(user, 100, 2)
    quota.reserve("realm", 100, 2)
    port = ports[1].take_even(with_next=True)
    held.append((port, user))
    token = reservations.add(1, port + 1, user, time.monotonic() - 29.998)  # lives for 2 ms
    try:
        os.write(tokens_out, token + user.encode())
    except BlockingIOError:
        pass
    while reservations.next_at() and len(reservations) > 20:
        give_back(2)
    give_back(2)
give_back(0)
print(redeemed, flush=True)
"""


def test_nothing_leaks_from_workers_that_are_killed_at_any_moment() -> None:
    shared = SharedLedger.create(Geometry(2, 50_000, 50_199, 100, (IPV4,)))
    pipes = [os.pipe(), os.pipe()]

    def start(worker: int) -> subprocess.Popen[bytes]:
        descriptors = (shared.descriptor, pipes[worker][0], pipes[1 - worker][1])
        words = [sys.executable, "-c", _RESTLESS_WORKER, str(worker), *map(str, descriptors)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=descriptors, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        return process

    with start(0) as survivor, contextlib.ExitStack() as stack:
        stack.callback(survivor.kill)
        for _ in range(10):
            with start(1) as victim:
                for _ in range(random.randrange(200_000)):  # noqa: S311
                    shared.is_relayed_by_another(1, IPV4, 50_000)  # passes the time
                victim.kill()
            assert victim.returncode == -signal.SIGKILL, "it ended by itself"
            while True:
                with contextlib.suppress(BlockingIOError):
                    shared.clear_worker(1)
                    break
            assert shared.ledger(1, os.urandom).ports[IPV4].taken == 0
        survivor.terminate()
        assert survivor.stdout is not None
        assert int(survivor.stdout.read()) > 0
        survivor.wait()
    assert survivor.returncode == 0
    quota = shared.ledger(0, os.urandom).quota
    assert shared.count_free(IPV4) == 200
    assert [quota.held(holder) for holder in ("0", "1", "realm")] == [0, 0, 0]
    assert not any(shared.counts)
    for descriptor in (descriptor for pipe in pipes for descriptor in pipe):
        os.close(descriptor)
    shared.close()

"""The users: somebody who asks for an address, somebody who calls through the relay, two people who talk."""

import itertools
import time
from typing import Final

import gevent  # type: ignore[import-untyped]
from locust import User, between, task

from loadtest.media import Flow, StrayPacket
from loadtest.relayed_call import REFRESH_SECONDS, WIRES, RelayedCall, RequestRefused
from loadtest.signaling.seat import BLOB_SIZES, Refused, Seat
from loadtest.stage import Stage
from stun.address import TransportAddress
from stun.attributes import XOR_MAPPED_ADDRESS
from stun.message import decode_message
from stun.registry import ErrorCode
from tests.support.turn_client import new_transaction_id

_ANSWER_SECONDS: Final = 5.0
_STAY_SECONDS: Final = 1.0  # how long one seat listens before the other one does
_BINDING_REQUEST: Final = bytes.fromhex("000100002112a442")  # then the transaction id
# A relay that is full says 508, and 486 to a user who has enough; TURN has no word for when to come again.
_FULL: Final = frozenset({ErrorCode.INSUFFICIENT_CAPACITY, ErrorCode.ALLOCATION_QUOTA_REACHED})
_FULL_PAUSE_SECONDS: Final = (2.0, 4.0)
_COME_AGAIN: Final = frozenset({"overload", "rate_limited"})

_UNTOLD_SECONDS: Final = 5.0  # when the server does not say when to come again


class PacketLost(Exception):
    """A packet has not arrived."""


class RetryTimeMissing(Exception):
    """A refusal that does not say when to come again."""


class _Person(User):
    """Comes again and again. Whoever is asked to stop ends what they do in order, so that nothing is lost by it."""

    abstract = True

    def on_start(self) -> None:
        """Begin."""
        self.stage: Stage = self.environment.stage  # put there by the locustfile
        self.is_leaving = False
        self._again_in: float | None = None
        self._refused_since: float | None = None

    def stop(self, force: bool = False) -> bool:  # noqa: FBT001, FBT002  # Locust's
        """Stop, in order unless forced."""
        self.is_leaving = True
        return bool(super().stop(force))

    def wait_time(self) -> float:
        """Seconds until the next visit."""
        again_in, self._again_in = self._again_in, None
        return self.stage.between(self.stage.profile.pause_seconds) if again_in is None else again_in

    def refused(self, name: str, seconds: float, again_in: float, failure: Exception | None = None) -> None:
        """Report that this person was told to come again, and let them.

        Args:
            name: of the row.
            seconds: how long it took to be told.
            again_in: seconds until the next visit.
            failure: what is wrong with how it was told.
        """
        self.stage.report("REFUSED", name, seconds, failure=failure)
        self._again_in = again_in
        if self._refused_since is None:
            self._refused_since = time.perf_counter() - seconds

    def admitted(self, name: str) -> None:
        """Report how long it took in all, if there was a refusal before."""
        if self._refused_since is not None:
            self.stage.report("WAITED", name, time.perf_counter() - self._refused_since)
            self._refused_since = None


class Prober(_Person):
    """Asks for its own address, as every browser does before a call."""

    wait_time = between(0.1, 0.5)

    @task
    def bind(self) -> None:
        """One Binding request from a new port."""
        wire = WIRES["udp"](self.stage.target.relay["udp"])
        try:
            with self.stage.step("STUN", "Binding"):
                request = _BINDING_REQUEST + new_transaction_id()
                wire.send(request)
                answer = decode_message(wire.receive(_ANSWER_SECONDS))
                if answer.transaction_id != request[8:]:
                    raise ValueError("the answer to another request")
                if answer.get(XOR_MAPPED_ADDRESS) != TransportAddress.parse(*wire.local):
                    raise ValueError("another address than ours")
        finally:
            wire.close()


class Caller(_Person):
    """Calls a peer through the relay: media in both directions, a refresh in the middle."""

    media_kind = "MEDIA"
    media_prefix = ""

    @task
    def call(self) -> None:
        """One call."""
        stage = self.stage
        transport = stage.next_transport()
        relay = stage.target.relay[transport]
        with stage.step("TURN", f"connect over {transport}"):
            call = RelayedCall(transport, relay, stage.target.peer, stage.next_user(), stage.next_number())
        with call:
            with stage.step("TURN", f"challenge over {transport}"):
                call.challenge()
            if not self._allocate(call, transport):
                return
            with stage.step("TURN", f"permission over {transport}"):
                call.permit()
            with stage.step("TURN", f"bind over {transport}"):
                call.bind()
            self._talk(call, transport, self.length_seconds())
            with stage.step("TURN", f"delete over {transport}"):
                call.delete()

    def length_seconds(self) -> float:
        """Of the next call."""
        return self.stage.between(self.stage.profile.call_seconds)

    def _allocate(self, call: RelayedCall, transport: str) -> bool:
        begun = time.perf_counter()
        try:
            with self.stage.step("TURN", f"allocate over {transport}", apart=RequestRefused):
                call.allocate()
        except RequestRefused as error:
            if error.code not in _FULL:
                self.stage.report("TURN", f"allocate over {transport}", time.perf_counter() - begun, failure=error)
                raise
            again_in = self.stage.between(_FULL_PAUSE_SECONDS)
            self.refused(f"allocate: {error.code}", time.perf_counter() - begun, again_in)
            if call.has_repeated:
                with self.stage.step("TURN", f"withdraw over {transport}"):
                    call.withdraw()
            return False
        self.admitted("until allocated")
        return True

    def _talk(self, call: RelayedCall, transport: str, seconds: float) -> None:
        """Send and receive, and report every packet."""
        names = {
            call.up: f"{self.media_prefix}media client to peer over {transport}",
            call.down: f"{self.media_prefix}media peer to client over {transport}",
        }

        def arrived(flow: Flow, seconds: float, length: int) -> None:
            self.stage.report(self.media_kind, names[flow], seconds, length)

        call.on_arrival = arrived
        refreshing = gevent.spawn(self._keep, call, transport, min(seconds / 2, REFRESH_SECONDS))
        try:
            with self.stage.unbroken(self.media_kind, names[call.up]):
                video = self.stage.profile.video
                self.stage.skipped_ticks += call.talk(seconds, video=video, goes_on=lambda: not self.is_leaving)
                call.settle()
        finally:
            refreshing.kill()
        for flow, name in names.items():
            for _ in range(flow.lost):
                self.stage.report(self.media_kind, name, None, failure=PacketLost("lost"))
        for _ in range(call.strays):
            self.stage.report(self.media_kind, f"stray over {transport}", None, failure=StrayPacket("stray"))

    def _keep(self, call: RelayedCall, transport: str, every: float) -> None:
        """Renew allocation, channel and permission while media flows, as browsers do."""
        while True:
            gevent.sleep(every)
            with self.stage.step("TURN", f"refresh over {transport}"):
                call.refresh()
            with self.stage.step("TURN", f"bind again over {transport}"):
                call.bind()


class Resident(Caller):
    """Has called before the others came, and talks until the end: what happens to running calls is seen by this one."""

    media_kind = "RUNNING"
    media_prefix = "running "

    def length_seconds(self) -> float:
        """Longer than the run."""
        return self.stage.profile.seconds


class Talker(_Person):
    """Both people of an appointment: they join, verify each other, say what pages say, talk, and leave."""

    @task
    def visit(self) -> None:
        """One talk."""
        locators = self.stage.pairs.popleft()
        seats: list[Seat] = []
        try:
            if self._sit_down(locators, seats):
                self._consult(*seats)
        finally:
            for seat in seats:
                seat.end()
            self.stage.pairs.append(locators)

    def _sit_down(self, locators: list[str], seats: list[Seat]) -> bool:
        """Both join; when one of them is refused, both go and come again."""
        for locator in locators:
            begun = time.perf_counter()
            try:
                with self.stage.step("WS", "join", apart=Refused):
                    seat = Seat.connect(self.stage.target.pages)
                    seats.append(seat)
                    seat.join(locator)
            except Refused as error:
                seconds = time.perf_counter() - begun
                if error.code not in _COME_AGAIN:
                    self.stage.report("WS", "join", seconds, failure=error)
                    raise
                failure = RetryTimeMissing(error.code) if error.retry_after is None else None
                # Not all at the same instant again: pages draw this as well.
                again_in = (error.retry_after or _UNTOLD_SECONDS) * self.stage.between((1.0, 1.5))
                self.refused(f"join: {error.code}, come again", seconds, again_in, failure)
                with self.stage.unbroken("WS", "leave"):
                    for other in seats[:-1]:
                        other.leave()
                return False
        self.admitted("until seated")
        return True

    def _consult(self, first: Seat, second: Seat) -> None:
        stage = self.stage
        with stage.step("WS", "pair"):
            for seat, other in ((first, second), (second, first)):
                seat.meet(other.pid)
                seat.verify(other.pid)
        for size in itertools.islice(itertools.cycle(BLOB_SIZES), stage.profile.blobs):
            blob = "x" * size
            with stage.step("WS", "relay both ways", 2 * size):
                first.say(second.pid, blob)
                second.say(first.pid, blob)
                second.hear(first.pid, blob)
                first.hear(second.pid, blob)
        ends_at = time.monotonic() + stage.between(stage.profile.call_seconds)
        with stage.unbroken("WS", "stay"):
            while time.monotonic() < ends_at and not self.is_leaving:
                first.stay(_STAY_SECONDS / 2)
                second.stay(_STAY_SECONDS / 2)
        with stage.step("WS", "leave"):
            first.leave()
            second.leave()

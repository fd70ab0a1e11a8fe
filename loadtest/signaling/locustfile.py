"""People who talk: Locust users of the signaling protocol (docs/signaling.md).

    locust -f loadtest/signaling/locustfile.py Talker --headless -H http://localhost:8080 --plan plan.json -u 20 -r 20

The plan is a JSON list of pairs of locators. Each user takes the next pair, plays both of its people, and so on until
the plan is at its end; then the run ends by itself. `make bench-signaling` does all of that.
"""

import itertools
import json
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from locust import User, constant, events, task
from locust.env import Environment
from locust.exception import StopUser

from loadtest.signaling.seat import BLOB_SIZES, Seat

MAX_BLOBS: Final = 150  # of each side: a client may send 200 messages at once, and 50 a second
JOINED_CHARACTERS: Final = 640  # about as long as the answer to a join


class Talk:
    """What all users share: the plan, and how far it has come."""

    def __init__(self, pairs: list[list[str]], blobs: int) -> None:
        """Begin.

        Args:
            pairs: locators of organiser and participant.
            blobs: that each side of a talk says.
        """
        self.waiting = deque(pairs)
        self.blobs = list(itertools.islice(itertools.cycle("x" * size for size in BLOB_SIZES), blobs))
        self.playing = 0
        self.done = {"talks": 0, "joins": 0, "relayed": 0}


class _Visitor(User):
    abstract = True
    wait_time = constant(0)

    def on_start(self) -> None:
        self._talk: Talk = self.environment.talk  # put there below
        self._talk.playing += 1

    def on_stop(self) -> None:
        self._talk.playing -= 1
        if not self._talk.playing and not self._talk.waiting and self.environment.runner is not None:
            self.environment.runner.quit()

    @task
    def visit(self) -> None:
        """Take the next appointment, if there is one."""
        if not self._talk.waiting:
            raise StopUser
        locators = self._talk.waiting.popleft()
        seats: list[Seat] = []
        try:
            self.play(locators, seats)
        finally:
            for seat in seats:
                seat.end()

    def play(self, locators: list[str], seats: list[Seat]) -> None:
        """Go through one appointment; whatever has been opened is in `seats`."""
        raise NotImplementedError

    def count(self, joins: int, relayed: int) -> None:
        """Add what a visit has brought about."""
        for key, value in (("talks", 1), ("joins", joins), ("relayed", relayed)):
            self._talk.done[key] += value

    @contextmanager
    def step(self, name: str, length: int = 0) -> Iterator[None]:
        """Report one exchange to Locust; a failure is reported, and ends the visit."""
        begun = time.perf_counter()
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
            raise
        finally:
            self.environment.events.request.fire(
                request_type="WS",
                name=name,
                response_time=(time.perf_counter() - begun) * 1000,
                response_length=length,
                exception=failure,
                context={},
            )


class Talker(_Visitor):
    """Both people of an appointment: they join, verify each other, say something, and leave."""

    def play(self, locators: list[str], seats: list[Seat]) -> None:
        """Play one talk."""
        for locator in locators:
            with self.step("connect and join"):
                seats.append(Seat.connect(self.host or ""))
                seats[-1].join(locator)
        first, second = seats
        with self.step("pair"):
            for seat, other in ((first, second), (second, first)):
                seat.meet(other.pid)
                seat.verify(other.pid)
        for blob in self._talk.blobs:
            with self.step("relay both ways", 2 * len(blob)):
                first.say(second.pid, blob)
                second.say(first.pid, blob)
                second.hear(first.pid, blob)
                first.hear(second.pid, blob)
        with self.step("leave"):
            first.leave()
            second.receive()  # that the other one has gone
            second.leave()
        self.count(joins=2, relayed=2 * len(self._talk.blobs))


class Echoer(_Visitor):
    """The same number of sockets and of messages, about as long, with a server that knows nothing: the floor."""

    def play(self, locators: list[str], seats: list[Seat]) -> None:
        """Open a socket for each locator and get every message back."""
        for _ in locators:
            with self.step("connect and echo"):
                seats.append(Seat.connect(self.host or ""))
                self._exchange([seats[-1]], "x" * JOINED_CHARACTERS)
        for blob in self._talk.blobs:
            with self.step("echo twice", 2 * len(blob)):
                self._exchange(seats, blob)
        with self.step("close"):
            for seat in seats:
                seat.end()
        self.count(joins=len(seats), relayed=len(seats) * len(self._talk.blobs))

    @staticmethod
    def _exchange(seats: list[Seat], text: str) -> None:
        for seat in seats:
            seat.send_text(text)
        for seat in seats:
            if seat.receive() != text:
                raise ValueError("another text than the one that was sent")


def _add_arguments(parser: ArgumentParser, **_: Any) -> None:  # noqa: ANN401 - Locust's
    parser.add_argument("--plan", default="plan.json", help="JSON list of pairs of locators")
    parser.add_argument("--blobs", type=int, default=20, help=f"blobs that each side says, at most {MAX_BLOBS}")
    parser.add_argument("--result", default="", help="file for the counts, as JSON")


def _read_plan(environment: Environment, **_: Any) -> None:  # noqa: ANN401 - Locust's
    options = environment.parsed_options
    if options is None or not 0 <= options.blobs <= MAX_BLOBS:
        raise SystemExit(f"--blobs is a number up to {MAX_BLOBS}")
    environment.talk = Talk(json.loads(Path(options.plan).read_text()), options.blobs)  # type: ignore[attr-defined]


def _write_result(environment: Environment, **_: Any) -> None:  # noqa: ANN401 - Locust's
    talk: Talk = environment.talk  # type: ignore[attr-defined]
    if talk.waiting:
        environment.process_exit_code = 1  # the time was over first
    if environment.parsed_options is not None and environment.parsed_options.result:
        Path(environment.parsed_options.result).write_text(json.dumps(talk.done))


events.init_command_line_parser.add_listener(_add_arguments)  # type: ignore[no-untyped-call]  # Locust's
events.init.add_listener(_read_plan)  # type: ignore[no-untyped-call]  # Locust's
events.quitting.add_listener(_write_result)  # type: ignore[no-untyped-call]  # Locust's

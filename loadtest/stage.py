"""What all users of a load test share: whom they speak to, what they do, and where their figures go."""

import itertools
import json
import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import gevent  # type: ignore[import-untyped]
from locust.env import Environment

from loadtest.judgement import Generator
from loadtest.profiles import Profile
from stun.credentials import issue_credential
from tests.support.turn_client import TurnClient

CREDENTIAL_SECONDS: Final = 3600  # longer than any call
PULSE_SECONDS: Final = 0.02  # of the timer that says whether the generator keeps up
GENERATOR: Final = "GENERATOR"
LATENESS: Final = "lateness of a timer"
CPU: Final = "CPU, ms in each second"


class Target(NamedTuple):
    """The service."""

    pages: str  # http://HOST:PORT
    relay: dict[str, tuple[str, int]]  # where it listens, by transport
    peer: str  # address of this machine that the relay may send to
    secret: str  # of time-limited credentials
    pairs: list[list[str]]  # locators of organiser and participant, one pair for each user at least

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `loadtest/README.md` describes."""
        values = json.loads(path.read_text())
        relay = {transport: (str(host), int(port)) for transport, (host, port) in values["relay"].items()}
        return cls(values["pages"], relay, values["peer"], values["secret"], values["pairs"])


class Stage:
    """One run."""

    def __init__(self, environment: Environment, target: Target, profile: Profile) -> None:
        """Begin.

        Args:
            environment: Locust's, which keeps the statistics.
            target: the service.
            profile: what is played.
        """
        self.target = target
        self.profile = profile
        self.random = random.Random(profile.name)  # noqa: S311  # nobody has to guess it: runs shall be alike
        self.pairs = deque(target.pairs)
        self.skipped_ticks = 0
        self._environment = environment
        self._numbers = itertools.count(1)
        transports = [name for name, share in profile.transports.items() for _ in range(share)]
        self.random.shuffle(transports)
        self._transports = itertools.cycle(transports)

    def next_transport(self) -> str:
        """How the next client reaches the relay."""
        return next(self._transports)

    def next_number(self) -> int:
        """A number that nobody else has."""
        return next(self._numbers)

    def next_user(self) -> TurnClient:
        """Somebody with a time-limited credential of their own."""
        expires_at = int(time.time()) + CREDENTIAL_SECONDS
        credential = issue_credential(self.target.secret.encode(), expires_at, f"load{self.next_number()}")
        return TurnClient(credential.username, credential.password)

    def between(self, bounds: tuple[float, float]) -> float:
        """A number of seconds."""
        return self.random.uniform(*bounds)

    # Figures

    def report(
        self, kind: str, name: str, seconds: float | None, length: int = 0, failure: Exception | None = None
    ) -> None:
        """Hand one measurement to Locust.

        Args:
            kind: Locust's request type.
            name: of the row.
            seconds: how long it took; None for what never came to an end.
            length: in bytes.
            failure: why it counts as failed.
        """
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's
            request_type=kind,
            name=name,
            response_time=None if seconds is None else seconds * 1000,
            response_length=length,
            exception=failure,
            context={},
        )

    @contextmanager
    def step(self, kind: str, name: str, length: int = 0, *, apart: type[Exception] | None = None) -> Iterator[None]:
        """Report how long something takes; what it raises is reported as its failure, and raised.

        Args:
            kind: Locust's request type.
            name: of the row.
            length: in bytes.
            apart: an error that the caller reports in its own way.
        """
        begun = time.perf_counter()
        try:
            yield
        except Exception as error:
            if apart is None or not isinstance(error, apart):
                self.report(kind, name, time.perf_counter() - begun, length, error)
            raise
        self.report(kind, name, time.perf_counter() - begun, length)

    @contextmanager
    def unbroken(self, kind: str, name: str) -> Iterator[None]:
        """Report nothing unless what goes on here ends by an error: then that is a failure of this row, and raised."""
        try:
            yield
        except Exception as error:
            self.report(kind, name, None, failure=error)
            raise

    def watch_generator(self) -> None:
        """Measure this process until the greenlet is killed: how late its timers are, and what CPU it takes."""
        looked_at, spent = time.perf_counter(), time.process_time()
        while True:
            begun = time.perf_counter()
            gevent.sleep(PULSE_SECONDS)
            now = time.perf_counter()
            self.report(GENERATOR, LATENESS, now - begun - PULSE_SECONDS)
            if now - looked_at >= 1:
                self.report(GENERATOR, CPU, (time.process_time() - spent) / (now - looked_at))
                looked_at, spent = now, time.process_time()

    def generator(self) -> Generator:
        """How busy this process was."""
        stats = self._environment.stats
        return Generator(
            cpu_share=stats.get(CPU, GENERATOR).avg_response_time / 1000,
            late_p95_ms=stats.get(LATENESS, GENERATOR).get_response_time_percentile(0.95),
            skipped_ticks=self.skipped_ticks,
        )

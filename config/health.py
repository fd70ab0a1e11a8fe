"""Whether this process lives, and whether it is ready for clients; each answer costs next to nothing.

Probes come from orchestrators, load balancers and curious people at any rate. So what takes work (a query, an
allocation) is done once in a few seconds, by one at a time, and everybody else reads the last result.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

EVERY_SECONDS: Final = 5.0  # between two runs of one probe
PATIENCE_SECONDS: Final = 4.0  # then a probe has failed
MAX_LAG_SECONDS: Final = 5.0  # of the event loop; later than that it does not live, it hangs

_LOGGER: Final = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """What a check found. The reason is one line for the operator, without anything of a client."""

    holds: bool
    reason: str = ""


_DRAINING: Final = Verdict(holds=False, reason="nobody new is taken; whoever is here may finish")

Check = Callable[[], bool | Verdict]
Probe = Callable[[], Awaitable[Verdict]]


class Lag(NamedTuple):
    """How late the loop is, in seconds."""

    seconds: float
    bound: float = MAX_LAG_SECONDS

    @property
    def is_bearable(self) -> bool:
        """Whether the process still does its work."""
        return self.seconds < self.bound


class CachedProbe:
    """A check that takes work, done at most once in `every` seconds, whoever asks and how often."""

    def __init__(
        self,
        name: str,
        probe: Probe,
        *,
        every: float = EVERY_SECONDS,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            name: in the log.
            probe: does the work.
            every: seconds from the end of one run to the begin of the next.
            patience: seconds, after which a run has failed.
            clock: monotonic time, in seconds.
        """
        self._name = name
        self._probe = probe
        self._every = every
        self._patience = patience
        self._clock = clock
        self._verdict = Verdict(holds=False, reason="not tried yet")
        self._again_at = -1.0
        self._running: asyncio.Task[None] | None = None

    async def ask(self) -> Verdict:
        """The last verdict, or a new one if that is too old."""
        if self._running is None and self._clock() >= self._again_at:
            self._running = asyncio.get_running_loop().create_task(self._run(), name=f"probe {self._name}")
        if self._running is not None:
            await asyncio.shield(self._running)
        return self._verdict

    async def stop(self) -> None:
        """End a run that goes on."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                self._verdict = await self._probe()
        except TimeoutError:
            self._verdict = Verdict(holds=False, reason=f"no answer within {self._patience:g} s")
        except Exception as error:
            _LOGGER.exception("the check %s failed", self._name)
            self._verdict = Verdict(holds=False, reason=f"broken: {type(error).__name__}")
        finally:
            self._again_at = self._clock() + self._every
            self._running = None


class Health:
    """The checks of one process, by name."""

    def __init__(self, lag: Callable[[], float]) -> None:
        """Begin without any; `lag` tells how late the event loop is, in seconds."""
        self._lag = lag
        self._checks: dict[str, Check] = {}
        self._probes: dict[str, CachedProbe] = {}
        self._is_draining = False

    def drain(self) -> None:
        """Be unready from now on, whatever would be found: nothing is looked at any more."""
        self._is_draining = True

    def add_check(self, name: str, check: Check) -> None:
        """Take a check that is quick and does not block."""
        self._checks[name] = check

    def add_probe(self, name: str, probe: Probe) -> None:
        """Take a check that takes work; it is run now and then, and never twice at a time."""
        self._probes[name] = CachedProbe(name, probe)

    def liveness(self) -> Lag:
        """How late the loop is."""
        return Lag(self._lag())

    async def readiness(self) -> Mapping[str, Verdict]:
        """The verdict of every check, within `PATIENCE_SECONDS`; while the service drains that alone, and at once."""
        if self._is_draining:
            return {"draining": _DRAINING}
        verdicts = {name: _judge(name, check) for name, check in self._checks.items()}
        asked = await asyncio.gather(*(probe.ask() for probe in self._probes.values()))
        return verdicts | dict(zip(self._probes, asked, strict=True))

    async def stop(self) -> None:
        """End what goes on."""
        for probe in self._probes.values():
            await probe.stop()


def _judge(name: str, check: Check) -> Verdict:
    """A check that breaks means "not ready"; why, stands in the log."""
    try:
        found = check()
    except Exception as error:
        _LOGGER.exception("the check %s failed", name)
        return Verdict(holds=False, reason=f"broken: {type(error).__name__}")
    return found if isinstance(found, Verdict) else Verdict(found, "" if found else "does not take anybody new")

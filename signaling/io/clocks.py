"""The two clocks of the shell, in one place so that tests can hold them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Clocks(NamedTuple):
    """`monotonic` in seconds, for deadlines; `utc_now` aware, for appointments and credentials."""

    monotonic: Callable[[], float] = time.monotonic
    utc_now: Callable[[], datetime] = _utc_now

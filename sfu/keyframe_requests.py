"""How often publishers are asked for key frames: they are large, and with a wrong key every receiver wants one."""

from typing import Final

LAYER_INTERVAL: Final = 0.5  # seconds between two requests for one layer
RECEIVER_INTERVAL: Final = 1.0  # seconds between two requests that one receiver causes
MAX_INTERVAL: Final = 1.0  # seconds, for a layer whose key frames do not help
PATIENCE: Final = 4  # requests in a row before the interval grows
CALM: Final = 4.0  # seconds without a request after which they do not count as in a row


class LayerKeyFrames:
    """Requests for one layer: at most one per interval; what comes in between is remembered and asked for later."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._is_wanted = False
        self._in_a_row = 0

    @property
    def interval(self) -> float:
        """Seconds between two requests."""
        return MAX_INTERVAL if self._in_a_row >= PATIENCE else LAYER_INTERVAL

    def want(self, now: float) -> None:
        """Somebody cannot go on without a key frame."""
        self._is_wanted = True
        if now - self._asked_at > CALM:
            self._in_a_row = 0

    def arrived(self) -> None:
        """A key frame begins: who wanted one has it."""
        self._is_wanted = False

    def poll(self, now: float) -> bool:
        """Whether the publisher is to be asked now; the request then counts as sent."""
        if not self._is_wanted or now - self._asked_at < self.interval:
            return False
        self._is_wanted = False
        self._asked_at = now
        self._in_a_row += 1
        return True

    def poll_timeout(self) -> float | None:
        """The instant at which `poll` will say yes, if nothing comes before; None if nobody wants anything."""
        return self._asked_at + self.interval if self._is_wanted else None


class ReceiverKeyFrames:
    """Requests that one receiver may cause."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")

    def allow(self, now: float) -> bool:
        """Whether a request of this receiver counts; the next one does a RECEIVER_INTERVAL later."""
        if now - self._asked_at < RECEIVER_INTERVAL:
            return False
        self._asked_at = now
        return True

"""Log lines about something that fails again and again: the first one, and then one a minute."""

import logging

REPEAT_SECONDS = 60.0


class FailureLog:
    """Says that one thing fails, as often as somebody wants to read it."""

    def __init__(self, logger: logging.Logger, level: int, text: str) -> None:
        """Prepare.

        Args:
            logger: writes the lines.
            level: theirs.
            text: what fails.
        """
        self._logger = logger
        self._level = level
        self._text = text
        self._next_at = float("-inf")
        self._silent = 0

    def report(self, error: Exception, now: float) -> None:
        """Write a failure down, or count it until the next line.

        Args:
            error: what happened; only its type is told, for its text may hold what the attempt was about.
            now: monotonic time, in seconds.
        """
        if now < self._next_at:
            self._silent += 1
            return
        more = f", and {self._silent} times more since the last line" if self._silent else ""
        self._logger.log(self._level, "%s: %s%s", self._text, type(error).__name__, more)
        self._next_at = now + REPEAT_SECONDS
        self._silent = 0

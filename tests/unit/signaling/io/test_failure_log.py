import logging

import pytest

from signaling.io.failure_log import REPEAT_SECONDS, FailureLog

NOW = 5_000.0


def test_the_first_failure_is_told_and_the_next_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog(logging.getLogger("test"), logging.WARNING, "it failed")
    for seconds in (0.0, 1.0, REPEAT_SECONDS - 0.1, REPEAT_SECONDS, REPEAT_SECONDS + 1):
        log.report(OSError("ABCDEF"), NOW + seconds)
    assert caplog.messages == ["it failed: OSError", "it failed: OSError, and 2 times more since the last line"]


def test_a_failure_long_after_the_others_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog(logging.getLogger("test"), logging.ERROR, "it failed")
    log.report(OSError(), NOW)
    log.report(TimeoutError(), NOW + 1_000)
    assert caplog.messages == ["it failed: OSError", "it failed: TimeoutError"]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}

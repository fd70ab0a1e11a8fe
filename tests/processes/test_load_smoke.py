"""The whole service under people who call and talk, for a minute."""

from pathlib import Path

import pytest

from tests.support.load import run_load, total


@pytest.mark.timeout(300)
def test_a_minute_of_calls_and_talks_loses_no_packet_and_leaves_nothing_behind(tmp_path: Path) -> None:
    result = run_load(tmp_path, "smoke")
    for transport in ("udp", "tcp", "tls"):
        assert total(result, "TURN", f"delete over {transport}") > 0
    # The relay has counted the packets that both sides have: nothing is measured that did not happen.
    sent = total(result, "MEDIA", "media")
    assert sent > 10_000
    assert sent - total(result, "MEDIA", "media", "failures") <= result["service"]["packets"] <= sent

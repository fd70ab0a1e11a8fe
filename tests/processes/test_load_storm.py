"""Everybody at nine o'clock, and a service that is too small for them."""

from pathlib import Path

import pytest

from tests.support.load import run_load, total

pytestmark = pytest.mark.long

RELAYED = 32  # of the profile's forty ports the relay gives away 80 %
SEATS = 50
BEING_TOLD = 64  # sockets beyond the seats, to be told overload


@pytest.mark.timeout(300)
def test_a_storm_is_refused_in_order_and_harms_no_running_call(tmp_path: Path) -> None:
    result = run_load(tmp_path, "storm")
    assert total(result, "RUNNING", "running media") > 5_000  # and hardly one lost, by the threshold
    assert total(result, "REFUSED", "allocate: 508") > 0
    assert total(result, "REFUSED", "join: overload, come again") > 0
    assert total(result, "WAITED", "until") > 0  # who came again got in
    assert result["service"]["most_allocations"] <= RELAYED
    assert result["service"]["most_clients"] <= SEATS + BEING_TOLD

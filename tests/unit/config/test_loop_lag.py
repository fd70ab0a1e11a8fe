import asyncio
import time

from prometheus_client import CollectorRegistry

from config import loop_lag
from config.loop_lag import LoopLag


async def test_a_busy_loop_shows_as_lag() -> None:
    registry = CollectorRegistry()
    lag = LoopLag(registry)
    lag.start()
    await asyncio.sleep(0)
    busy_until = time.monotonic() + loop_lag.INTERVAL_SECONDS + 0.3
    while time.monotonic() < busy_until:
        pass
    for _ in range(5):  # the timer is due: turns of the loop until it has woken the task
        await asyncio.sleep(0)
    await lag.stop()
    assert registry.get_sample_value("redconnect_event_loop_lag_seconds_bucket", {"le": "0.1"}) == 0
    assert (registry.get_sample_value("redconnect_event_loop_lag_seconds_sum") or 0.0) >= 0.3


async def test_the_worst_of_the_last_seconds_is_remembered_and_a_stuck_loop_is_late_right_now() -> None:
    lag = LoopLag(CollectorRegistry())
    assert lag.worst() == 0.0
    lag.start()
    await asyncio.sleep(0)
    busy_until = time.monotonic() + loop_lag.INTERVAL_SECONDS + 0.3
    while time.monotonic() < busy_until:
        pass
    assert lag.worst() >= 0.3  # although the timer has not fired yet
    for _ in range(5):
        await asyncio.sleep(0)
    assert lag.worst() >= 0.3
    await lag.stop()

import asyncio

import pytest

from config.health import CachedProbe, Health, Verdict

GOOD = Verdict(holds=True)


class Work:
    """A probe that counts its runs, and goes on as far as the test lets it."""

    def __init__(self) -> None:
        self.runs = 0
        self.now = 100.0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.verdict = GOOD
        self.error: Exception | None = None

    async def run(self) -> Verdict:
        self.runs += 1
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return self.verdict


def cached(work: Work, patience: float = 10.0) -> CachedProbe:
    return CachedProbe("work", work.run, every=5.0, patience=patience, clock=lambda: work.now)


async def test_a_verdict_is_good_for_some_seconds_however_many_ask() -> None:
    work = Work()
    probe = cached(work)
    for _ in range(1000):
        assert await probe.ask() == GOOD
    assert work.runs == 1
    work.now += 5.0
    work.verdict = Verdict(holds=False, reason="it is gone")
    assert await probe.ask() == work.verdict
    assert work.runs == 2


async def test_while_the_service_drains_nothing_is_probed_and_the_answer_comes_at_once() -> None:
    work = Work()
    work.may_end.clear()
    health = Health(lambda: 0.0)
    health.add_check("relay", lambda: True)
    health.add_probe("self_allocation", work.run)
    health.drain()
    found = await health.readiness()
    assert [(name, verdict.holds) for name, verdict in found.items()] == [("draining", False)]
    assert found["draining"].reason
    assert work.runs == 0


async def test_those_who_ask_at_once_wait_for_the_same_run() -> None:
    work = Work()
    work.may_end.clear()
    probe = cached(work)
    asking = [asyncio.ensure_future(probe.ask()) for _ in range(100)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert set(await asyncio.gather(*asking)) == {GOOD}
    assert work.runs == 1


async def test_whoever_hangs_up_does_not_end_the_run_of_the_others() -> None:
    work = Work()
    work.may_end.clear()
    probe = cached(work)
    impatient, patient = asyncio.ensure_future(probe.ask()), asyncio.ensure_future(probe.ask())
    await asyncio.sleep(0)
    impatient.cancel()
    work.may_end.set()
    assert await patient == GOOD
    assert work.runs == 1


async def test_a_probe_that_hangs_has_failed_and_is_tried_again() -> None:
    work = Work()
    work.may_end.clear()
    probe = cached(work, patience=0.01)
    assert await probe.ask() == Verdict(holds=False, reason="no answer within 0.01 s")
    work.may_end.set()
    work.now += 5.0
    assert await probe.ask() == GOOD


async def test_a_probe_that_breaks_has_failed_and_tells_no_more_than_the_kind_of_the_error() -> None:
    work = Work()
    work.error = ValueError("Erika Mustermann")
    assert await cached(work).ask() == Verdict(holds=False, reason="broken: ValueError")


async def test_stopping_ends_a_run() -> None:
    work = Work()
    work.may_end.clear()
    probe = cached(work)
    asking = asyncio.ensure_future(probe.ask())
    await asyncio.sleep(0)
    await probe.stop()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_check_that_breaks_makes_it_unready_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        raise RuntimeError("the relay is gone")

    health = Health(lambda: 0.0)
    health.add_check("relay", broken)
    assert await health.readiness() == {"relay": Verdict(holds=False, reason="broken: RuntimeError")}
    assert "the check relay failed" in caplog.text


async def test_checks_and_probes_stand_side_by_side() -> None:
    work = Work()
    health = Health(lambda: 0.0)
    health.add_check("relay", lambda: True)
    health.add_probe("database", work.run)
    assert await health.readiness() == {"relay": GOOD, "database": GOOD}
    await health.stop()

"""What breaches a threshold, and when figures are not believed."""

import pytest

from loadtest.judgement import BUSY_SHARE, LATE_MS, Generator, Row, Threshold, Verdict, breaches, doubts, verdict

HELD = Row("TURN", "allocate", requests=1000, failures=1, p50=1.0, p95=20.0, p99=50.0)
THRESHOLDS = {"TURN": Threshold(failure_share=0.001, p95_ms=20)}
CALM = Generator(cpu_share=0.5, late_p95_ms=1.0, skipped_ticks=0)


def test_what_is_exactly_at_its_thresholds_holds_them() -> None:
    assert breaches([HELD], THRESHOLDS, ["allocate"]) == []


def test_one_failure_too_many_is_a_breach() -> None:
    (sentence,) = breaches([HELD._replace(failures=2)], THRESHOLDS, [])
    assert sentence == "TURN allocate: 0.20% failed, at most 0.10% may"


def test_a_latency_above_its_threshold_is_a_breach_unless_only_failures_are_judged() -> None:
    slow = HELD._replace(p95=21.0)
    assert breaches([slow], THRESHOLDS, []) == ["TURN allocate: p95 is 21 ms, at most 20 ms may be"]
    assert breaches([slow], THRESHOLDS, [], latency=False) == []


def test_what_was_to_happen_and_has_not_is_a_breach() -> None:
    assert breaches([HELD], THRESHOLDS, ["allocate", "allocate: 508"]) == ["allocate: 508: has not happened"]


def test_a_row_that_nothing_is_said_about_is_a_breach() -> None:
    (sentence,) = breaches([HELD._replace(kind="REFUSED")], THRESHOLDS, [])
    assert "nothing says" in sentence


def test_a_row_without_any_request_counts_as_failed() -> None:
    assert breaches([HELD._replace(requests=0, failures=0)], THRESHOLDS, [])


def test_a_calm_generator_is_believed() -> None:
    assert doubts(CALM) == []


@pytest.mark.parametrize(
    "generator", [CALM._replace(cpu_share=BUSY_SHARE + 0.01), CALM._replace(late_p95_ms=LATE_MS + 1)]
)
def test_a_generator_that_cannot_keep_up_is_doubted(generator: Generator) -> None:
    assert len(doubts(generator)) == 1


def test_the_exit_status_tells_a_breach_from_figures_that_mean_nothing() -> None:
    assert verdict([], []) == Verdict.HELD
    assert verdict(["slow"], []) == Verdict.BREACHED
    assert verdict(["slow"], ["busy"]) == Verdict.UNRELIABLE
    assert verdict([], ["busy"], latency=False) == Verdict.HELD
    assert verdict(["lost"], ["busy"], latency=False) == Verdict.BREACHED

import pytest

from config.doctor.facts import Bpf, Buffers, Clock, Conntrack, Descriptors, Identity, Offload
from config.doctor.findings import Verdict
from config.doctor.host import (
    check_bpf,
    check_buffers,
    check_clock,
    check_conntrack,
    check_descriptors,
    check_identity,
    check_offload,
)

YES, NO = True, False
FLOWS = 26_000


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Identity(0, is_service=True), Verdict.WARNING),
        (Identity(0, is_service=False), Verdict.OK),
        (Identity(990, is_service=True), Verdict.OK),
    ],
)
def test_a_service_that_runs_as_root_is_told(facts: Identity, verdict: Verdict) -> None:
    assert check_identity(facts).verdict == verdict


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Clock(YES, 0.01), Verdict.OK),
        (Clock(YES, 16.0), Verdict.WARNING),
        (Clock(NO, 0.0), Verdict.WARNING),
    ],
)
def test_a_clock_that_nobody_sets_is_told(facts: Clock, verdict: Verdict) -> None:
    assert check_clock(facts).verdict == verdict


@pytest.mark.parametrize(
    ("facts", "verdicts"),
    [
        (Buffers(4 << 20, 8 << 20, NO, 0, 0), [Verdict.OK]),
        (Buffers(4 << 20, 212_992, NO, 0, 0), [Verdict.WARNING]),
        (Buffers(4 << 20, 212_992, YES, 0, 0), [Verdict.OK]),
        (Buffers(4 << 20, 8 << 20, NO, 100, 1_000_000), [Verdict.OK]),
        (Buffers(4 << 20, 8 << 20, NO, 101, 1_000_000), [Verdict.OK, Verdict.WARNING]),
    ],
)
def test_small_buffers_and_losses_are_told(facts: Buffers, verdicts: list[Verdict]) -> None:
    assert [finding.verdict for finding in check_buffers(facts)] == verdicts


def test_the_mend_of_small_buffers_is_a_command() -> None:
    (finding,) = check_buffers(Buffers(4 << 20, 212_992, NO, 0, 0))
    assert finding.mend == "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608"


@pytest.mark.parametrize(("limit", "verdict"), [(50_000, Verdict.OK), (49_999, Verdict.WARNING), (1023, Verdict.FAULT)])
def test_too_few_descriptors_are_told(limit: int, verdict: Verdict) -> None:
    finding = check_descriptors(Descriptors(limit, 50_000, 1))
    assert finding.verdict == verdict
    assert "LimitNOFILE=50000" in finding.mend or verdict == Verdict.OK


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Conntrack(is_loaded=NO), Verdict.OK),
        (Conntrack(YES, 100, 262_144, FLOWS, "3478"), Verdict.OK),
        (Conntrack(YES, 100, 16_384, FLOWS, "3478"), Verdict.WARNING),
        (Conntrack(YES, 16_000, 16_384, FLOWS, "3478"), Verdict.FAULT),
        (Conntrack(YES, 0, 0, FLOWS, "3478"), Verdict.WARNING),
    ],
)
def test_a_table_of_connections_that_is_too_small_is_told(facts: Conntrack, verdict: Verdict) -> None:
    finding = check_conntrack(facts)
    assert finding.verdict == verdict
    assert ("udp dport { 3478 } notrack" in finding.mend) == (verdict != Verdict.OK)


@pytest.mark.parametrize(
    ("facts", "verdicts"),
    [
        (Offload(YES, YES, YES, NO), [Verdict.OK, Verdict.OK]),
        (Offload(NO, YES, NO, NO), [Verdict.WARNING, Verdict.WARNING]),
        (Offload(YES, NO, NO, YES), [Verdict.WARNING, Verdict.WARNING]),
    ],
)
def test_what_makes_packets_dear_is_told(facts: Offload, verdicts: list[Verdict]) -> None:
    assert [finding.verdict for finding in check_offload(facts)] == verdicts


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Bpf(YES, YES, YES), "could be used"),
        (Bpf(YES, NO, NO), "no BTF, no CAP_BPF"),
        (Bpf(NO, YES, YES), "system call"),
    ],
)
def test_kernel_offload_is_told_and_never_asked_for(facts: Bpf, said: str) -> None:
    finding = check_bpf(facts)
    assert finding.verdict == Verdict.OK and said in finding.found

import pytest

from config.doctor.facts import Buffers, Clock, Conntrack, Datapath, Descriptors, Identity, Offload
from config.doctor.findings import Verdict
from config.doctor.host import (
    check_buffers,
    check_clock,
    check_conntrack,
    check_datapath,
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
    ("facts", "verdict", "said"),
    [
        (Datapath("plain"), Verdict.OK, "as relay.datapath says"),
        (
            Datapath("auto", ("eth0", "eth1")),
            Verdict.OK,
            "the kernel can relay busy flows of UDP clients on eth0, eth1",
        ),
        (Datapath("auto", ("eth0",), is_on=True), Verdict.OK, "the kernel relays busy flows of UDP clients on eth0"),
        (
            Datapath("auto"),
            Verdict.OK,
            "has an address of the relay (to change that: name others in relay.",
        ),
        (
            Datapath("auto", ("eth0",), ("CAP_BPF",)),
            Verdict.OK,
            "CAP_BPF is missing (to change that: the drop-in deploy",
        ),
        (
            Datapath("auto", ("eth0",), (), "the kernel is too old"),
            Verdict.OK,
            "user space relays: the kernel is too old",
        ),
        (Datapath("auto", ("eth0",), is_on=False), Verdict.OK, "the service has given it up"),
        (Datapath("kernel", ("eth0",)), Verdict.OK, "the kernel can relay"),
        (Datapath("kernel", ("eth0",), is_on=True), Verdict.OK, "the kernel relays"),
        (Datapath("kernel"), Verdict.FAULT, "relay.datapath is kernel, but no Ethernet interface has"),
        (Datapath("kernel", ("eth0",), ("CAP_BPF", "CAP_NET_ADMIN")), Verdict.FAULT, "CAP_BPF and CAP_NET_ADMIN are"),
        (Datapath("kernel", ("eth0",), (), "the kernel is too old"), Verdict.FAULT, "but the kernel is too old"),
        (Datapath("kernel", ("eth0",), is_on=False), Verdict.FAULT, "but the service has given it up"),
    ],
)
def test_who_relays_is_told_with_the_reason_and_the_mend(facts: Datapath, verdict: Verdict, said: str) -> None:
    finding = check_datapath(facts)
    assert finding.verdict == verdict
    assert said in finding.found
    assert bool(finding.mend) == (verdict != Verdict.OK)

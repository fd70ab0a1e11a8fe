import pytest

from config.doctor.facts import Addresses, Advertised, Bound, Endpoint, PortRange, Process, Service
from config.doctor.findings import Finding, Verdict
from config.doctor.network import check_addresses, check_ports, check_relay_range

OWN = ("127.0.0.1", "10.0.0.5", "198.41.0.4")
KEY = "relay.relay_addresses"
OURS, OTHER = Process(10, "redconnect"), Process(66, "nginx")
RUNNING = Service(is_running=True, pids=frozenset({10, 11}))
STOPPED = Service(is_running=False)
UDP = Endpoint("UDP", "", 3478)


def verdict_of(each: Advertised) -> tuple[Verdict, str]:
    (finding,) = check_addresses(Addresses(OWN, (each,), ()))
    return finding.verdict, finding.found + " " + finding.mend


@pytest.mark.parametrize(
    ("advertised", "verdict", "said"),
    [
        (Advertised(KEY, "198.41.0.4", "198.41.0.4"), Verdict.OK, "peers are told 198.41.0.4"),
        (Advertised(KEY, "10.0.0.5", "198.41.0.9"), Verdict.OK, "a NAT makes it of 10.0.0.5"),
        (Advertised(KEY, "198.41.0.4", "198.41.0.4", "198.41.0.4", True), Verdict.OK, "answers there"),  # noqa: FBT003
        (Advertised(KEY, "198.41.0.4", "198.41.0.4", "", True), Verdict.FAULT, "does not answer"),  # noqa: FBT003
        (Advertised(KEY, "10.0.0.5", "10.0.0.5", "", True), Verdict.FAULT, "does not answer"),  # noqa: FBT003
        (Advertised(KEY, "10.0.0.5", "198.41.0.9", "", True), Verdict.WARNING, "redconnect check from outside"),  # noqa: FBT003
        (Advertised(KEY, "10.0.0.5", "10.0.0.5"), Verdict.WARNING, 'relay.external_addresses: {"10.0.0.5"'),
        (Advertised("sfu.listen_addresses", "10.0.0.5", "10.0.0.5"), Verdict.WARNING, "sfu.external_addresses"),
        (Advertised(KEY, "10.0.0.6", "198.41.0.9"), Verdict.FAULT, "10.0.0.6 is no address of this machine"),
        (Advertised(KEY, "10.0.0.5", "224.0.0.1"), Verdict.FAULT, "peers cannot reach 224.0.0.1"),
        (Advertised(KEY, "10.0.0.5", "0.0.0.0"), Verdict.FAULT, "peers cannot reach"),  # noqa: S104
    ],
)
def test_what_peers_are_told_leads_here(advertised: Advertised, verdict: Verdict, said: str) -> None:
    found, text = verdict_of(advertised)
    assert found == verdict and said in text


def test_an_address_that_is_mapped_must_exist() -> None:
    mapped = (("relay.external_addresses", "10.9.9.9"), ("relay.external_addresses", "10.0.0.5"))
    (finding,) = check_addresses(Addresses(OWN, (), mapped))
    assert finding.verdict == Verdict.FAULT and "10.9.9.9" in finding.found


def ports(bound: list[Bound], service: Service) -> list[Finding]:
    return list(check_ports([UDP], bound, service))


def test_a_port_that_we_hold_is_well() -> None:
    (finding,) = ports([Bound(Endpoint("UDP", "10.0.0.5", 3478), OURS)], RUNNING)
    assert finding.verdict == Verdict.OK


def test_workers_that_share_a_port_with_us_are_us() -> None:
    bound = [Bound(UDP, OURS), Bound(UDP, Process(11, "redconnect"))]
    assert ports(bound, RUNNING)[0].verdict == Verdict.OK


@pytest.mark.parametrize("service", [RUNNING, STOPPED])
def test_a_port_of_somebody_else_is_a_fault_that_names_it(service: Service) -> None:
    (finding,) = ports([Bound(UDP, OTHER)], service)
    assert finding.verdict == Verdict.FAULT and "nginx (PID 66)" in finding.found


def test_the_same_number_of_the_other_protocol_or_another_address_is_another_port() -> None:
    wanted = [Endpoint("UDP", "10.0.0.5", 3478)]
    bound = [Bound(Endpoint("TCP", "10.0.0.5", 3478), OTHER), Bound(Endpoint("UDP", "127.0.0.1", 3478), OTHER)]
    assert [finding.verdict for finding in check_ports(wanted, bound, STOPPED)] == [Verdict.OK]


def test_a_port_that_nobody_has_is_a_fault_only_while_the_service_runs() -> None:
    assert ports([], RUNNING)[0].verdict == Verdict.FAULT
    assert ports([], STOPPED)[0].verdict == Verdict.OK


def test_who_cannot_be_seen_is_not_accused_where_it_may_be_us() -> None:
    unseen = [Bound(UDP, None)]
    assert ports(unseen, RUNNING)[0].verdict == Verdict.WARNING
    assert ports(unseen, Service(is_running=False, trouble="permission denied"))[0].verdict == Verdict.WARNING
    assert ports(unseen, STOPPED)[0].verdict == Verdict.FAULT
    hanging = Service(is_running=True, trouble="no answer", hangs=True)
    assert ports([Bound(UDP, OURS)], hanging)[0].verdict == Verdict.WARNING


def range_of(*reserved: tuple[int, int], local: tuple[int, int] = (32_768, 60_999)) -> list[Finding]:
    return list(check_relay_range(PortRange(49_152, 65_535, *local, reserved, ())))


def test_a_range_that_the_kernel_gives_away_is_a_warning_and_one_that_is_reserved_is_well() -> None:
    (finding,) = range_of()
    assert finding.verdict == Verdict.WARNING
    assert finding.mend == "sysctl -w net.ipv4.ip_local_reserved_ports=49152-65535"
    assert range_of((49_152, 65_535))[0].verdict == Verdict.OK
    assert range_of(local=(32_768, 49_151))[0].verdict == Verdict.OK


def test_what_is_reserved_already_stays_reserved() -> None:
    (finding,) = range_of((8_000, 8_010), (49_152, 60_000))
    assert finding.mend.endswith("=8000-8010,49152-60000,49152-65535")


def test_sockets_of_others_in_the_range_are_named() -> None:
    others = tuple(Bound(Endpoint("UDP", "", 50_000 + number), Process(number, f"p{number}")) for number in range(5))
    findings = list(check_relay_range(PortRange(49_152, 65_535, 1, 2, (), others)))
    assert "p0 (PID 0), p1 (PID 1), p2 (PID 2) and 2 more" in findings[0].found

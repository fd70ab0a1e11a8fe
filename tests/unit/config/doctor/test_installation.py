from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.doctor.facts import Certificate, Database, Link, Redis, Service, StateDirectory, StateFile
from config.doctor.findings import Finding, Verdict
from config.doctor.installation import (
    LITTLE_SPACE,
    NO_SPACE,
    check_certificate,
    check_database,
    check_redis,
    check_service,
    check_settings_file,
    check_state_directory,
)
from config.settings_file import SettingsFile

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SOUND = Certificate(
    file="chain.pem",
    is_needed=True,
    is_ours=False,
    refusal="",
    names=("video.example.org", "*.turn.example.org", "192.0.2.1"),
    hosts=("video.example.org",),
    chain=(
        Link("CN=video.example.org", "CN=R10", True, NOW + timedelta(days=60)),  # noqa: FBT003
        Link("CN=R10", "CN=Root", True, NOW + timedelta(days=900)),  # noqa: FBT003
    ),
    now=NOW,
)


def faults(findings: list[Finding]) -> list[str]:
    return [finding.found for finding in findings if finding.verdict == Verdict.FAULT]


def certificate(**changes: Any) -> list[Finding]:  # noqa: ANN401
    return list(check_certificate(SOUND._replace(**changes)))


def leaf(**changes: Any) -> tuple[Link, ...]:  # noqa: ANN401
    return (SOUND.chain[0]._replace(**changes), *SOUND.chain[1:])


def test_a_sound_certificate_is_well() -> None:
    assert {finding.verdict for finding in certificate()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("days", "verdict"), [(14, Verdict.OK), (13, Verdict.WARNING), (0, Verdict.FAULT), (-3, Verdict.FAULT)]
)
def test_its_end_is_told_two_weeks_before(days: int, verdict: Verdict) -> None:
    assert certificate(chain=leaf(ends=NOW + timedelta(days=days)))[0].verdict == verdict


def test_a_key_of_another_certificate_is_a_fault() -> None:
    assert faults(certificate(refusal="KEY_VALUES_MISMATCH")) == ["the key belongs to another certificate"]


def test_what_no_tls_can_be_served_with_is_a_fault_in_the_words_of_openssl() -> None:
    assert "EE_KEY_TOO_SMALL" in faults(certificate(refusal="EE_KEY_TOO_SMALL"))[0]


def test_a_chain_that_ends_too_early_or_is_out_of_order_is_a_fault() -> None:
    last = SOUND.chain[1]._replace(is_signed_by_next=False)
    assert "ends before CN=Root" in faults(certificate(chain=(SOUND.chain[0], last)))[0]
    assert "not signed by the next" in faults(certificate(chain=leaf(is_signed_by_next=False)))[0]


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("VIDEO.example.org", True),
        ("a.turn.example.org", True),
        ("a.b.turn.example.org", False),
        ("turn.example.org", False),
        ("192.0.2.1", True),
        ("example.org", False),
    ],
)
def test_it_must_be_good_for_the_hosts_that_clients_are_told(host: str, fits: bool) -> None:  # noqa: FBT001
    assert (faults(certificate(hosts=(host,))) == []) is fits


def test_one_of_our_own_is_a_warning_and_its_names_do_not_matter() -> None:
    findings = certificate(is_ours=True, hosts=("example.net",))
    assert [finding.verdict for finding in findings] == [Verdict.OK, Verdict.WARNING]


def test_without_tls_there_is_nothing_to_look_at() -> None:
    (finding,) = certificate(is_needed=False, chain=())
    assert finding.verdict == Verdict.OK


@pytest.mark.parametrize(
    ("facts", "verdicts"),
    [
        (Service(is_running=False), [Verdict.WARNING]),
        (Service(is_running=False, trouble="Permission denied"), [Verdict.WARNING]),
        (Service(is_running=True, trouble="no answer", hangs=True), [Verdict.FAULT]),
        (Service(is_running=True, pids=frozenset({1})), [Verdict.OK]),
        (Service(is_running=True, failing=(("database", "gone"), ("bus", ""))), [Verdict.FAULT, Verdict.FAULT]),
    ],
)
def test_the_service_is_told_as_it_says_itself(facts: Service, verdicts: list[Verdict]) -> None:
    assert [finding.verdict for finding in check_service(facts)] == verdicts


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Database(is_needed=False), Verdict.OK),
        (Database(is_needed=True), Verdict.OK),
        (Database(is_needed=True, exists=False), Verdict.OK),
        (Database(is_needed=True, is_current=False), Verdict.WARNING),
        (Database(is_needed=True, error="gone"), Verdict.FAULT),
    ],
)
def test_the_database_is_told(facts: Database, verdict: Verdict) -> None:
    assert check_database(facts).verdict == verdict


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Redis(is_needed=False), Verdict.OK),
        (Redis(is_needed=True), Verdict.OK),
        (Redis(is_needed=True, error="TimeoutError"), Verdict.FAULT),
    ],
)
def test_redis_is_told(facts: Redis, verdict: Verdict) -> None:
    assert check_redis(facts).verdict == verdict


def state(**changes: Any) -> list[Finding]:  # noqa: ANN401
    files = (StateFile("turn-secret", 0o600, 990),)
    facts = StateDirectory("/var/lib/redconnect", True, 0o700, 990, 990, 10 << 30, files)  # noqa: FBT003
    return list(check_state_directory(facts._replace(**changes)))


def test_a_directory_for_its_owner_alone_with_room_is_well() -> None:
    assert [finding.verdict for finding in state()] == [Verdict.OK]


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"mode": 0o755}, "chmod 700 /var/lib/redconnect"),
        ({"files": (StateFile("turn-secret", 0o640, 990),)}, "chmod 600 /var/lib/redconnect/turn-secret"),
        ({"files": (StateFile("turn-secret", 0o600, 0),)}, "chown -R 990 /var/lib/redconnect"),
        ({"owner": 0}, "chown -R 990 /var/lib/redconnect"),
    ],
)
def test_secrets_that_others_can_read_or_we_cannot_are_faults(changes: dict[str, Any], mend: str) -> None:
    assert mend in [finding.mend for finding in state(**changes) if finding.verdict == Verdict.FAULT]


@pytest.mark.parametrize(
    ("free", "verdict"), [(LITTLE_SPACE, Verdict.OK), (NO_SPACE, Verdict.WARNING), (0, Verdict.FAULT)]
)
def test_a_disk_that_fills_is_told(free: int, verdict: Verdict) -> None:
    assert [finding.verdict for finding in state(free=free)] == [verdict]


def test_a_directory_that_is_not_there_yet_is_a_warning() -> None:
    assert [finding.verdict for finding in state(exists=False)] == [Verdict.WARNING]


def test_settings_that_others_can_read_or_change_are_a_fault_with_its_mend() -> None:
    exposed = SettingsFile(Path("/etc/redconnect/redconnect.yaml"), 0o644, holds_secrets=True, is_reachable=True)
    finding = check_settings_file(exposed)
    assert finding.verdict == Verdict.FAULT and "(mode 0644)" in finding.found
    assert "chmod 640 /etc/redconnect/redconnect.yaml" in finding.mend and "chown root:" in finding.mend
    for sound in (exposed._replace(mode=0o640), exposed._replace(holds_secrets=False), None):
        assert check_settings_file(sound).verdict == Verdict.OK

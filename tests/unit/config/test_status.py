from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, Gauge

from config.metrics_sum import take_snapshot
from config.readiness import Validity, check_ports
from config.reload import Outcome
from config.schema import Settings
from config.status import Draining, describe_status, status_lines

NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def described(settings: Settings | None = None, **changes: object) -> dict[str, object]:
    registry = CollectorRegistry()
    allocations = Gauge("redconnect_relay_allocations", "Live.", ["family"], registry=registry)
    allocations.labels("ipv4").set(3)
    allocations.labels("ipv6").set(2)
    fields: dict[str, object] = {
        "since": NOW - timedelta(hours=1),
        "draining": Draining(),
        "certificate": Validity(NOW, NOW + timedelta(days=20, hours=1)),
        "last_reload": None,
        "now": NOW,
    }
    return describe_status(settings or Settings(), take_snapshot(registry), {}, **{**fields, **changes})  # type: ignore[arg-type]


def test_figures_are_added_over_their_labels_and_what_is_not_there_is_none() -> None:
    status = described()
    assert (status["allocations"], status["rooms"], status["conferences"]) == (5, 0, 0)


def test_who_relays_is_told_with_the_flows_that_the_kernel_has() -> None:
    registry = CollectorRegistry()
    active, flows = (
        Gauge(f"redconnect_relay_kernel_{name}", "Of it.", registry=registry) for name in ("active", "flows")
    )
    fields = {"since": NOW, "draining": Draining(), "certificate": None, "last_reload": None, "now": NOW}
    status = describe_status(Settings(), take_snapshot(registry), {}, **fields)  # type: ignore[arg-type]
    assert "datapath     plain" in status_lines(status)
    active.set(2)  # workers
    flows.set(70)
    status = describe_status(Settings(), take_snapshot(registry), {}, **fields)  # type: ignore[arg-type]
    assert (status["datapath"], status["kernel_flows"]) == ("kernel", 70)
    assert "datapath     kernel, which relays 70 flows" in status_lines(status)
    alone = Settings.model_validate({"services": ["signaling"]})
    status = describe_status(alone, take_snapshot(registry), {}, **fields)  # type: ignore[arg-type]
    assert not any(line.startswith("datapath") for line in status_lines(status))


def test_listeners_are_those_of_the_services_that_run() -> None:
    settings = Settings.model_validate({"services": ["signaling"], "admin": {"port": 9999}})
    listeners = described(settings)["listeners"]
    assert listeners == [
        {"what": "pages", "protocol": "TCP", "ports": [8080], "addresses": []},
        {"what": "admin", "protocol": "TCP", "ports": [9999], "addresses": ["127.0.0.1"]},
    ]


def test_people_read_the_certificate_the_drain_and_the_last_reload() -> None:
    ends = NOW + timedelta(minutes=10)
    lines = "\n".join(
        status_lines(
            described(
                draining=Draining(is_draining=True, ends_at_latest=ends),
                last_reload=Outcome(NOW, succeeded=False, lines=("typo: unknown key",)),
            )
        )
    )
    assert "certificate  20 days left, until 2026-12-21T10:00:00Z" in lines
    assert "draining     until 2026-12-01T09:10:00Z" in lines
    assert "last reload  2026-12-01T09:00:00Z: refused\n             typo: unknown key" in lines


@pytest.mark.parametrize(("left", "holds"), [(1, True), (0, False), (-1, False)])
def test_a_relay_needs_a_port_that_is_left(left: int, holds: bool) -> None:  # noqa: FBT001
    assert check_ports(left).holds is holds

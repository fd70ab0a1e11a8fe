"""What an operator finds on `/metrics`: everything that docs/metrics.md promises, with one worker and with two."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from config.metrics_table import every_row, is_open
from tests.support.ports import free_port
from tests.support.turn_client import TurnClient
from tests.support.wire_client import Peer, Server, run_relay

OTHER_SECRET = "another secret of thirty-two bytes, or even more"
PROMISED = {  # name of the sample: what tells its series apart
    "redconnect_relay_payload_bytes_total": {"transport", "direction"},
    "redconnect_relay_packets_total": {"transport", "direction"},
    "redconnect_relay_packets_dropped_total": {"reason"},
    "redconnect_relay_allocations": {"transport", "family"},
    "redconnect_relay_allocations_created_total": {"transport", "family"},
    "redconnect_relay_allocations_deleted_total": {"transport", "family", "ending"},
    "redconnect_relay_allocations_authenticated_total": {"secret"},
    "redconnect_relay_allocation_duration_seconds_count": set(),
    "redconnect_relay_allocate_latency_seconds_count": set(),
    "redconnect_relay_requests_answered_total": {"method", "transport"},
    "redconnect_relay_requests_refused_total": {"method", "code", "cause"},
    "redconnect_relay_messages_dropped_total": {"reason"},
    "redconnect_relay_ports_taken": {"family"},
    "redconnect_relay_ports_limit": {"family"},
    "redconnect_relay_connections": {"transport"},
    "redconnect_relay_streams_closed_total": {"reason"},
    "redconnect_relay_dtls_events_total": {"event"},
    "redconnect_relay_draining": set(),
    "redconnect_certificate_expiry_timestamp_seconds": set(),
    "redconnect_certificate_reloads_total": {"result"},
    "redconnect_host_udp_receive_buffer_errors_total": {"family"},
    "redconnect_event_loop_lag_seconds_count": set(),
    "redconnect_reloads_total": {"result"},
    "redconnect_last_successful_reload_timestamp_seconds": set(),
    "redconnect_build_info": {"version", "relay"},
    "process_resident_memory_bytes": set(),
}
OF_WORKERS = {
    "redconnect_worker_event_loop_lag_seconds_count": set(),
    "redconnect_worker_up": {"worker"},
    "redconnect_worker_restarts_total": {"worker"},
    "redconnect_worker_cpu_seconds_total": {"worker"},
    "redconnect_worker_resident_memory_bytes": {"worker"},
}


@pytest.fixture(params=[1, 2], ids=lambda count: f"{count} workers")
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    dtls = free_port()
    named = {"new": OTHER_SECRET}
    with run_relay(tmp_path, workers=request.param, dtls_ports=[dtls], secrets=named) as server:
        yield server._replace(ports={**server.ports, "dtls": dtls})


def labels(samples: dict[str, float]) -> dict[str, set[str]]:
    """The names of the labels of each metric that is shown."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        name, _, rest = sample.partition("{")
        found[name] = {part.partition("=")[0] for part in rest.rstrip("}").split('",') if part}
    return found


def live_through_a_day(relay: Server) -> None:
    """Make something happen that each metric has to tell of."""
    with contextlib.closing(Peer("127.0.0.1")) as peer:
        for transport in ("udp", "tcp", "tls", "dtls"):
            with contextlib.closing(relay.client(transport)) as client:
                relayed = client.relayed()
                assert client.permit(peer.address).code == 0
                client.send_to(peer.address, b"there")
                peer.receive()
                peer.send(b"back", relayed)
                client.receive_indication()
                assert client.permit(peer.address._replace(ip=bytes((10, 0, 0, 1)))).code == 403
                assert client.refresh(0).code == 0
        with contextlib.closing(relay.client_of(TurnClient("nobody", "of the test"))) as stranger:
            assert stranger.allocate().code == 401
        with contextlib.closing(relay.client(lives_for=-60)) as late:
            assert late.allocate().code == 401
        with contextlib.closing(relay.client()) as noisy:
            noisy.wire.send(b"\x00\x01nothing that parses as a message")
            noisy.exchange(noisy.binding())


def test_every_metric_that_is_promised_exists_with_its_labels(relay: Server) -> None:
    live_through_a_day(relay)
    shown = labels(relay.service.metrics())
    promised = PROMISED | (OF_WORKERS if relay.service.settings["relay"]["workers"] > 1 else {})
    assert {name: shown.get(name) for name in promised} == promised


def test_every_series_stands_in_the_documentation_with_its_labels_and_their_values(relay: Server) -> None:
    live_through_a_day(relay)
    rows = {row.name: row for row in every_row()}
    for family in text_string_to_metric_families(relay.service.admin("/metrics")):
        row = rows[f"{family.name}_total" if family.type == "counter" else family.name]
        assert row.kind == family.type
        for sample in family.samples:
            shown = {label: value for label, value in sample.labels.items() if label != "le"}
            assert shown.keys() == row.labels.keys(), sample
            for label, value in shown.items():
                assert is_open(row.name, label) or value in row.labels[label], sample


def test_promtool_finds_nothing_to_say_about_our_names(relay: Server) -> None:
    live_through_a_day(relay)
    page = relay.service.admin("/metrics")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_refusal_says_why_and_a_drop_too(relay: Server) -> None:
    live_through_a_day(relay)
    samples = relay.service.metrics()
    refused = [
        name for name, count in samples.items() if name.startswith("redconnect_relay_requests_refused") and count
    ]
    for cause in ("peer_private", "expired", "unknown_user"):
        assert any(cause in name for name in refused), refused
    assert samples['redconnect_relay_dtls_events_total{event="handshake"}'] == 1
    assert samples['redconnect_relay_streams_closed_total{reason="no_message"}'] == 0


def test_the_secret_behind_an_allocation_is_named(relay: Server) -> None:
    for client in (relay.client(), relay.client_with(OTHER_SECRET), relay.client_with(OTHER_SECRET)):
        with contextlib.closing(client):
            assert client.allocate().code == 0
    name = 'redconnect_relay_allocations_authenticated_total{{secret="{}"}}'
    samples = relay.service.metrics()
    assert (samples[name.format("turn_secret")], samples[name.format("new")]) == (1, 2)

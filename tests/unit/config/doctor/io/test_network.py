from config.doctor.facts import Bound, Endpoint, Process, Service
from config.doctor.io.network import collect_addresses, collect_relay_range, wanted_endpoints
from config.schema import Settings
from tests.support.ports import free_port

STOPPED = Service(is_running=False)


def test_every_listener_of_the_services_is_wanted() -> None:
    settings = Settings.model_validate(
        {
            "services": ["relay", "signaling", "sfu"],
            "relay": {
                "listen_addresses": ["192.0.2.1", "192.0.2.2"],
                "udp_ports": [3478],
                "tcp_ports": [],
                "tls_ports": [443],
            },
            "signaling": {"listen_addresses": ["0.0.0.0"]},  # noqa: S104  # nothing is bound
            "sfu": {"workers": 2},
        }
    )
    assert list(map(str, wanted_endpoints(settings))) == [
        "UDP 192.0.2.1:3478",
        "UDP 192.0.2.2:3478",
        "TCP 192.0.2.1:443",
        "TCP 192.0.2.2:443",
        "TCP *:8080",
        "UDP *:7882",
        "UDP *:7883",
        "TCP 127.0.0.1:9641",
    ]


def test_addresses_and_what_they_are_mapped_to_are_told() -> None:
    relay = {"relay_addresses": ["10.0.0.5"], "external_addresses": {"10.0.0.5": "203.0.113.7"}}
    facts = collect_addresses(Settings.model_validate({"services": ["relay"], "relay": relay}), STOPPED)
    (advertised,) = facts.advertised
    assert (advertised.bound, advertised.told, advertised.was_asked) == ("10.0.0.5", "203.0.113.7", False)
    assert facts.mapped == (("relay.external_addresses", "10.0.0.5"),)
    assert "127.0.0.1" in facts.own


def test_a_relay_that_should_run_and_does_not_answer_was_asked() -> None:
    relay = {"relay_addresses": ["127.0.0.1"], "udp_ports": [free_port()]}
    facts = collect_addresses(
        Settings.model_validate({"services": ["relay"], "relay": relay}), Service(is_running=True)
    )
    assert facts.advertised[0].was_asked and not facts.advertised[0].answer


def test_others_in_the_range_are_those_that_can_be_seen_and_are_not_the_service() -> None:
    bound = [
        Bound(Endpoint("UDP", "", 50_000), Process(7, "other")),
        Bound(Endpoint("UDP", "", 50_001), Process(8, "redconnect")),
        Bound(Endpoint("UDP", "", 50_002), None),
        Bound(Endpoint("TCP", "", 50_003), Process(7, "other")),
        Bound(Endpoint("UDP", "", 3478), Process(7, "other")),
    ]
    facts = collect_relay_range(Settings(), bound, Service(is_running=True, pids=frozenset({8})))
    assert [each.endpoint.port for each in facts.others] == [50_000]
    assert 0 < facts.local_first <= facts.local_last

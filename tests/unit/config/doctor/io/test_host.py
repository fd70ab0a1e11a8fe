"""What this machine says of itself: true or false, but always something."""

from config.doctor.facts import Datapath
from config.doctor.io.host import (
    SPARE_DESCRIPTORS,
    collect_buffers,
    collect_clock,
    collect_conntrack,
    collect_datapath,
    collect_descriptors,
    collect_identity,
    collect_offload,
)
from config.schema import Settings
from relay.io.udp import RECEIVE_BUFFER_BYTES

RELAY = {"relay_addresses": ["127.0.0.1"], "port_min": 50_000, "port_max": 50_999, "quota": {"stream_connections": 400}}


def test_the_kernel_answers_every_question() -> None:
    assert collect_clock().max_error_seconds >= 0.0
    assert collect_buffers(0).wanted == RECEIVE_BUFFER_BYTES
    assert collect_buffers(0).allowed > 0
    assert collect_identity(0).is_service is False
    assert isinstance(collect_offload().joins, bool)


def test_a_plane_in_user_space_is_not_asked_what_the_kernel_could() -> None:
    settings = Settings.model_validate({"relay": {**RELAY, "datapath": "plain"}})
    assert collect_datapath(settings, 0, "") == Datapath("plain")


def test_a_relay_on_loopback_has_no_interface_for_the_kernel() -> None:
    settings = Settings.model_validate({"relay": {**RELAY, "datapath": "auto", "listen_addresses": ["127.0.0.1"]}})
    assert collect_datapath(settings, 0, "plain").interfaces == ()
    assert collect_datapath(settings, 0, "plain").is_on is False
    assert collect_datapath(settings, 0, "kernel").is_on is True


def test_descriptors_are_those_of_ports_connections_and_clients() -> None:
    alone = Settings.model_validate({"services": ["relay"], "relay": RELAY})
    assert collect_descriptors(alone, 0).needed == 800 + 400 + SPARE_DESCRIPTORS
    both = Settings.model_validate({"relay": RELAY, "signaling": {"max_clients": 70}})
    assert collect_descriptors(both, 0).needed == 800 + 400 + 70 + SPARE_DESCRIPTORS
    workers = Settings.model_validate({"relay": {**RELAY, "workers": 4}, "signaling": {"max_clients": 70}})
    assert collect_descriptors(workers, 0).needed == 300 + SPARE_DESCRIPTORS


def test_a_table_of_connections_is_told_with_the_ports_of_the_settings() -> None:
    facts = collect_conntrack(Settings.model_validate({"services": ["relay"], "relay": RELAY}))
    if facts.is_loaded:
        assert (facts.expected, facts.ports) == (1600, "3478, 3479, 50000-50999")

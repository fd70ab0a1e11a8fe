from typing import Any

from config.keys import leaves
from config.reload import _NEEDS_RESTART, applicable, differences
from config.schema import Settings


def settings(**values: Any) -> Settings:  # noqa: ANN401
    return Settings.model_validate(values)


OLD = settings()
NEW = settings(
    relay={
        "realm": "clinic",
        "udp_ports": [3478],
        "secrets": {"old": "s" * 32},
        "quota": {"allocations_per_user": 7},
        "realms": {"other": {"ports": [3479], "users": {"bob": "hidden-password"}}},
    },
    log={"level": "debug"},
)


def test_equal_settings_differ_in_nothing() -> None:
    assert differences(OLD, settings()) == []


def test_every_difference_is_told_with_both_values() -> None:
    told = {each.key: str(each) for each in differences(OLD, NEW)}
    assert told["relay.realm"] == 'relay.realm: "redconnect" -> "clinic"'
    assert told["relay.quota.allocations_per_user"] == "relay.quota.allocations_per_user: 24 -> 7"
    assert told["relay.udp_ports"] == "relay.udp_ports: [3478, 3479] -> [3478] (after a restart)"
    assert told["log.level"] == 'log.level: "info" -> "debug"'
    assert len(told) == 6


def test_nothing_is_told_of_a_secret_but_that_it_changed() -> None:
    told = {each.key: each.change for each in differences(OLD, NEW)}
    assert told["relay.secrets"] == told["relay.realms"] == "changed"
    assert "hidden-password" not in " ".join(map(str, differences(OLD, NEW)))


def test_what_needs_a_restart_keeps_its_old_value_and_the_rest_is_new() -> None:
    now = applicable(OLD, NEW)
    assert now.relay.udp_ports == (3478, 3479)
    assert now.relay.realm == "clinic"
    assert now.relay.quota.allocations_per_user == 7
    assert now.relay.secrets.keys() == {"old"}
    assert now.log.level == "debug"


def test_every_key_that_needs_a_restart_exists() -> None:
    assert {path for path, _ in leaves()} >= _NEEDS_RESTART

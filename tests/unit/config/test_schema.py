import pytest
from pydantic import BaseModel, ValidationError

from config.keys import leaves, model_of
from config.schema import SELF_TEST_SECRET_NAME, TURN_SECRET_NAME, Settings


def contradiction(**sections: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(sections)
    return str(caught.value.errors()[0]["msg"])


def test_the_defaults_are_valid() -> None:
    assert Settings().services == ("relay", "signaling")


def test_every_key_has_a_default_and_a_description() -> None:
    for path, field in leaves():
        assert not field.is_required(), path
        assert field.description, path


def test_every_section_is_frozen_and_refuses_unknown_keys() -> None:
    def check(model: type[BaseModel]) -> None:
        assert model.model_config.get("frozen"), model
        assert model.model_config.get("extra") == "forbid", model
        for field in model.model_fields.values():
            inner = model_of(field)
            if inner is not None:
                check(inner)

    check(Settings)


def test_pages_and_admin_cannot_share_a_port() -> None:
    message = contradiction(signaling={"port": 9641})
    assert message == "admin.port TCP port 9641 is also taken by signaling.port"


def test_a_turn_port_over_tls_cannot_be_the_port_of_the_pages() -> None:
    message = contradiction(signaling={"port": 443}, relay={"tls_ports": (443,)})
    assert message == "signaling.port TCP port 443 is also taken by relay.tls_ports"


def test_every_collision_is_told_at_once() -> None:
    message = contradiction(signaling={"port": 9641}, relay={"tcp_ports": (9641,)})
    assert message.count("9641") == 3


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])  # noqa: S104 (nothing is bound here)
def test_an_unspecified_address_collides_with_every_other(wildcard: str) -> None:
    assert "9641" in contradiction(signaling={"port": 9641, "listen_addresses": (wildcard,)})


def test_two_addresses_may_use_the_same_port() -> None:
    settings = Settings.model_validate(
        {
            "signaling": {"port": 443, "listen_addresses": ("192.0.2.1",)},
            "relay": {"tls_ports": (443,), "listen_addresses": ("192.0.2.2",)},
        }
    )
    assert settings.signaling.port == 443


def test_a_service_that_does_not_run_takes_no_port() -> None:
    settings = Settings.model_validate({"services": ("relay",), "signaling": {"port": 3478}})
    assert settings.services == ("relay",)


def test_a_service_is_named_once() -> None:
    assert "twice" in contradiction(services=("relay", "relay"))


def test_conferences_need_somebody_who_tells_who_is_in_them() -> None:
    assert "sfu without signaling" in contradiction(services=("relay", "sfu"))
    Settings.model_validate({"services": ("signaling", "sfu")})


@pytest.mark.parametrize(
    ("port", "relay", "reason"),
    [
        (50_000, {}, "one of the relayed ports"),
        (3478, {}, "taken by relay.udp_ports"),
        (5349, {"dtls_ports": (5349,)}, "taken by relay.dtls_ports"),
    ],
)
def test_the_sfu_does_not_take_a_port_of_the_relay(port: int, relay: dict[str, object], reason: str) -> None:
    everything = ("relay", "signaling", "sfu")
    assert reason in contradiction(services=everything, sfu={"udp_port": port}, relay=relay)
    Settings.model_validate({"services": ("signaling", "sfu"), "sfu": {"udp_port": port}, "relay": relay})


@pytest.mark.parametrize(
    ("sfu", "relay", "reason"),
    [
        ({"udp_port": 49_150, "workers": 4}, {}, "UDP port 49152 is also one of the relayed ports"),
        ({"udp_port": 3476, "workers": 3}, {}, "UDP port 3478 is also taken by relay.udp_ports"),
    ],
)
def test_no_worker_of_the_sfu_takes_a_port_of_the_relay(
    sfu: dict[str, int], relay: dict[str, object], reason: str
) -> None:
    assert reason in contradiction(services=("relay", "signaling", "sfu"), sfu=sfu, relay=relay)
    fewer = {**sfu, "workers": 2}
    Settings.model_validate({"services": ("relay", "signaling", "sfu"), "sfu": fewer, "relay": relay})


def test_at_least_one_service_runs() -> None:
    with pytest.raises(ValidationError, match="services"):
        Settings.model_validate({"services": ()})


@pytest.mark.parametrize(("given", "missing"), [("certificate_file", "key_file"), ("key_file", "certificate_file")])
def test_certificate_and_key_come_together(given: str, missing: str) -> None:
    assert contradiction(tls={given: "x.pem"}) == f"tls.{missing} is empty although {given} is set"


def test_a_secret_is_counted_in_bytes() -> None:
    settings = Settings.model_validate({"secrets": {"turn_secret": "ü" * 16}})
    assert settings.secrets.turn_secret.get_secret_value() == "ü" * 16


def test_a_short_secret_is_refused() -> None:
    assert "has 31 bytes, fewer than 32" in contradiction(secrets={"locator_key": "x" * 31})


def test_the_representation_shows_no_secret() -> None:
    settings = Settings.model_validate(
        {
            "secrets": {"turn_secret": "geheim" * 8},
            "database_url": "sqlite+aiosqlite:///geheim",
            "relay": {"users": {"alice": "geheim"}},
        }
    )
    assert "geheim" not in repr(settings)
    assert "geheim" not in settings.model_dump_json()


@pytest.mark.parametrize("url", ["mysql://geheim@host/x", "sqlite+aiosqlite://u:p@h:geheim/x", "/var/lib/x"])
def test_a_database_that_is_not_known_is_refused_without_being_repeated(url: str) -> None:
    message = contradiction(database_url=url)
    assert "geheim" not in message


def test_postgresql_needs_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "asyncpg" in contradiction(database_url="postgresql+asyncpg://host/db")


def test_a_path_holds_no_nul() -> None:
    assert "NUL" in contradiction(state_dir="a\0b")


@pytest.mark.parametrize("name", [TURN_SECRET_NAME, SELF_TEST_SECRET_NAME])
def test_the_names_of_the_secrets_of_the_service_itself_are_taken(name: str) -> None:
    assert f"names a secret '{name}'" in contradiction(relay={"secrets": {name: "x" * 32}})

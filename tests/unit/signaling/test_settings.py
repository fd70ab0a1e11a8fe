import pytest
from pydantic import ValidationError

from signaling.settings import IceSettings, OperatorSettings, SignalingSettings


def test_every_key_has_a_default() -> None:
    settings = SignalingSettings()
    assert settings.seat_hold_seconds == 30
    assert settings.ice.host == ""


@pytest.mark.parametrize(("host", "kept"), [("Relay.Example.org", "relay.example.org"), ("2001:DB8::1", "2001:db8::1")])
def test_the_ice_host_is_kept_canonical(host: str, kept: str) -> None:
    assert IceSettings(host=host).host == kept


@pytest.mark.parametrize("host", ["[::1]", "relay.example.org:3478", "stun:relay", "1.2.3", "a b"])
def test_an_ice_host_that_fits_no_url_is_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        IceSettings(host=host)


def test_a_relay_credential_outlives_every_consultation_that_its_code_may_open() -> None:
    window = {"entry_opens_minutes": 60, "entry_closes_hours": 48}
    settings = SignalingSettings.model_validate({**window, "ice": {"credential_lifetime_seconds": 50 * 3600}})
    assert settings.ice.credential_lifetime_seconds == 180_000
    with pytest.raises(ValidationError, match="must not lie below 180000"):
        SignalingSettings.model_validate({**window, "ice": {"credential_lifetime_seconds": 50 * 3600 - 1}})
    with pytest.raises(ValidationError, match="must not lie below"):
        SignalingSettings(entry_closes_hours=168)


def test_the_longest_entry_window_has_a_credential_that_outlives_it() -> None:
    longest = {"entry_opens_minutes": 1440, "entry_closes_hours": 168, "ice": {"credential_lifetime_seconds": 777_600}}
    assert SignalingSettings.model_validate(longest).entry_closes_hours == 168


@pytest.mark.parametrize(
    "url", ["https://me@video.example", "https://v\u00e4deo.example", "https://video.example/", "x"]
)
def test_a_public_url_that_no_browser_writes_as_an_origin_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        SignalingSettings(public_url=url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Praxis\x1b[31m"},
        {"name": "x" * 201},
        {"address": "Weg 1\u202e"},
        {"email": "praxis"},
        {"email": "a@example.org?bcc=b@example.org"},
        {"phone": "siehe Webseite"},
        {"fax": "1"},
    ],
)
def test_what_no_imprint_can_show_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OperatorSettings.model_validate(wrong)


def test_an_address_may_have_lines() -> None:
    assert OperatorSettings(address="Musterweg 1\n12345 Musterstadt\n").address == "Musterweg 1\n12345 Musterstadt"

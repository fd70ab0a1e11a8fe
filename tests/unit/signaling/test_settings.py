import pytest
from pydantic import ValidationError

from signaling.settings import IceSettings, SignalingSettings


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

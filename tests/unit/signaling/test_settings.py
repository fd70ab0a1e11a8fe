from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr, ValidationError

from signaling.appointments import EntryWindow, Tier
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


def test_a_relay_credential_is_short_lived_but_lives_until_the_next_one_has_come() -> None:
    assert SignalingSettings().ice.credential_lifetime_seconds <= 3600
    for seconds in (9, 777_601):
        with pytest.raises(ValidationError):
            IceSettings(credential_lifetime_seconds=seconds)


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


def organisations(*hashes: list[str]) -> dict[str, object]:
    return {"organisations": {f"practice-{number}": {"tokens_sha256": known} for number, known in enumerate(hashes)}}


def test_organisations_are_known_by_hashes_of_tokens() -> None:
    settings = SignalingSettings.model_validate(organisations(["a" * 64, "b" * 64], ["c" * 64]))
    assert settings.organisations["practice-0"].tier is Tier.BASIS
    assert SignalingSettings().organisations == {}


@pytest.mark.parametrize("digest", ["a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "a" * 43])
def test_what_is_no_hash_is_refused(digest: str) -> None:
    with pytest.raises(ValidationError):
        SignalingSettings.model_validate(organisations([digest]))


@pytest.mark.parametrize("hashes", [[["a" * 64], ["a" * 64]], [["a" * 64, "a" * 64]]])
def test_a_token_belongs_to_one_organisation_once(hashes: list[list[str]]) -> None:
    with pytest.raises(ValidationError, match="a token twice"):
        SignalingSettings.model_validate(organisations(*hashes))


def test_an_organisation_without_a_token_is_refused() -> None:
    with pytest.raises(ValidationError):
        SignalingSettings.model_validate(organisations([]))


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a/b"])
def test_the_name_of_an_organisation_is_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        SignalingSettings.model_validate({"organisations": {name: {"tokens_sha256": ["a" * 64]}}})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://localhost",
        "redis://:geheim@10.0.0.7:6380/2",
        "rediss://user:geheim@redis.example.org:6379",
        "redis://[2001:db8::1]:6379/0",
        "unix:///run/redis/redis.sock",
    ],
)
def test_a_redis_url_is_taken_as_operators_write_it(url: str) -> None:
    assert SignalingSettings.model_validate({"redis_url": url}).redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    ["localhost:6379", "http://geheim@host", "redis://geheim@h:0", "redis://geheim@h:65536", "redis://geheim@h?db=1"],
)
def test_a_wrong_redis_url_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SignalingSettings.model_validate({"redis_url": url})
    assert "geheim" not in str(caught.value.errors(include_input=False))


def test_only_plus_shares_the_screen_unless_told_otherwise() -> None:
    tiers = SignalingSettings().tiers
    assert tiers.features_of(Tier.PLUS) == ("screen",)
    assert tiers.features_of(Tier.BASIS) == ()
    other = SignalingSettings.model_validate({"tiers": {"basis": {"features": ["screen"]}, "plus": {"features": []}}})
    assert other.tiers.features_of(Tier.BASIS) == ("screen",)
    assert other.tiers.features_of(Tier.PLUS) == ()


@pytest.mark.parametrize("tiers", [{"basis": {"features": ["recording"]}}, {"gold": {"features": []}}])
def test_a_feature_or_tier_that_there_is_not_is_refused(tiers: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SignalingSettings.model_validate({"tiers": tiers})


def test_the_window_of_an_appointment_and_the_oldest_that_has_not_ended_go_by_the_same_hours() -> None:
    settings = SignalingSettings(entry_opens_minutes=20, entry_closes_hours=3)
    start = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    assert settings.window(start) == EntryWindow(start - timedelta(minutes=20), start + timedelta(hours=3))
    ends_at = settings.window(start).closes_at
    assert settings.oldest_start(ends_at - timedelta(seconds=1)) == start
    assert settings.oldest_start(ends_at) > start


def test_a_conference_has_up_to_eight_people_unless_set_otherwise() -> None:
    assert SignalingSettings().conference_limit == 8
    assert SignalingSettings(max_participants=20).conference_limit == 20
    with pytest.raises(ValidationError):
        SignalingSettings(max_participants=21)
    with pytest.raises(ValidationError):
        SignalingSettings(max_participants=1)


def test_there_are_no_conferences_on_several_nodes_and_who_asks_for_them_is_told() -> None:
    url = SecretStr("redis://localhost:6379/0")
    assert SignalingSettings(redis_url=url).conference_limit == 2
    assert SignalingSettings(redis_url=url, max_participants=2).conference_limit == 2
    with pytest.raises(ValidationError, match="do not work with redis_url yet"):
        SignalingSettings(redis_url=url, max_participants=8)

from config.schema import Settings
from signaling.appointments import Tier


def test_what_the_papers_promise_of_defaults_holds() -> None:
    settings = Settings()
    relay, signaling = settings.relay, settings.signaling
    assert settings.admin.address == "127.0.0.1"
    assert settings.log.level == "info"
    assert not (relay.tcp_allocations or relay.mobility or relay.behaviour_discovery or relay.share_with_pages)
    assert (relay.dtls_ports, relay.users, relay.secrets, relay.realms, relay.proxy_sources) == ((), {}, {}, {}, ())
    assert relay.peers.allow == ()
    assert (signaling.organisations, signaling.redis_url.get_secret_value()) == ({}, "")
    assert (signaling.entry_closes_hours, signaling.seat_hold_seconds, signaling.unknown_codes_per_minute) == (
        24,
        30,
        10,
    )
    assert signaling.ice.credential_lifetime_seconds == 900
    assert signaling.tiers.features_of(Tier.BASIS) == ()
    assert "sfu" not in settings.services

"""What SIGHUP does to an installation whose relay is slow, refuses or breaks."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.assembly import TurnCredentials, _Installation
from config.reload import ReloadFailed
from config.schema import Settings
from config.state import State, open_state
from signaling.ice_servers import PortRange, RelayPorts


def test_the_credentials_of_one_subject_have_one_identity_that_tells_nothing_of_it() -> None:
    credentials = TurnCredentials(bytes(32), 600, b"key")
    first, again = credentials.issue(1_000, b"room"), credentials.issue(2_000, b"room")
    expiry, _, identity = first[0].partition(":")
    assert (expiry, again[0]) == ("1600", f"2600:{identity}")
    assert first[1] != again[1]
    assert credentials.issue(1_000, b"another room")[0] != first[0]
    assert TurnCredentials(bytes(32), 600, b"another key").issue(1_000, b"room")[0] != first[0]


@pytest.fixture(autouse=True)
def _leave_logging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.assembly.configure_logging", lambda _settings: None)


class SlowRelay:
    """Takes settings into use when the test says so."""

    ready = True
    allocations = 0
    ports_left = 1

    def __init__(self) -> None:
        self.reloads: list[str] = []
        self.asked = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.failure: Exception | None = None

    async def reload(self, settings: Settings, state: State) -> None:
        assert state.turn_secret
        self.reloads.append(settings.relay.realm)
        self.asked.set()
        await self.may_go_on.wait()
        if self.failure is not None:
            raise self.failure

    def worker_of(self, port: int) -> int:
        return port * 0

    async def drain(self) -> None: ...

    async def stop(self) -> None: ...


def settings_of(folder: Path, realm: str) -> Settings:
    return Settings.model_validate({"state_dir": str(folder), "relay": {"realm": realm}})


def install(folder: Path, relay: SlowRelay, load: Callable[[], Settings]) -> _Installation:
    settings = settings_of(folder, "first")
    installation = _Installation(settings, open_state(settings, datetime.now(UTC)), load)
    installation._relay = relay
    installation._is_started = True
    return installation


def reloads(installation: _Installation, result: str) -> float | None:
    return installation._registry.get_sample_value("redconnect_reloads_total", {"result": result})


@pytest.mark.parametrize("failure", [ReloadFailed("worker 1 cannot"), OSError("the disk"), KeyError("a bug")])
async def test_what_a_relay_refuses_is_told_counted_and_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    relay = SlowRelay()
    relay.failure = failure
    relay.may_go_on.set()
    installation = install(tmp_path, relay, lambda: settings_of(tmp_path, "second"))
    installation._reload_again = True
    await installation._reload_as_asked()
    assert "not reloaded: " in caplog.text
    assert (reloads(installation, "failure"), reloads(installation, "success")) == (1, 0)
    assert installation._settings.relay.realm == "first"


async def test_a_signal_during_the_start_waits_until_there_is_somebody_to_take_other_settings(tmp_path: Path) -> None:
    installation = install(tmp_path, SlowRelay(), lambda: settings_of(tmp_path, "second"))
    installation._is_started = False
    installation._on_sighup()
    assert (installation._reloading, installation._reload_again) == (None, True)


async def test_a_signal_during_a_reload_is_followed_by_another_reload(tmp_path: Path) -> None:
    relay, realms = SlowRelay(), iter(["second", "third"])
    installation = install(tmp_path, relay, lambda: settings_of(tmp_path, next(realms)))
    installation._on_sighup()
    async with asyncio.timeout(10):
        await relay.asked.wait()
        installation._on_sighup()
        installation._on_sighup()
        relay.may_go_on.set()
        assert installation._reloading is not None
        await installation._reloading
    assert relay.reloads == ["second", "third"]
    assert installation._settings.relay.realm == "third"
    assert reloads(installation, "success") == 2


async def test_the_certificate_of_the_pages_follows_the_settings(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    other = open_state(settings_of(second, "first"), datetime.now(UTC))
    names = {"certificate_file": str(other.certificate_file), "key_file": str(other.private_key_file)}
    changed = Settings.model_validate({"state_dir": str(first), "tls": names})
    installation = _Installation(
        settings_of(first, "first"), open_state(settings_of(first, "first"), datetime.now(UTC)), lambda: changed
    )
    certificate = installation._certificate = installation._state.certificate()
    installation._reload_again = True
    await installation._reload_as_asked()
    assert certificate.reloads == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, RelayPorts((3478, 3479), (3478, 3479), (5349, 5350), PortRange(49152, 65535))),
        (
            {"relay": {"udp_ports": [4000], "tcp_ports": [], "tls_ports": [443], "port_min": 50000, "port_max": 50999}},
            RelayPorts((4000,), (), (443,), PortRange(50000, 50999)),
        ),
        ({"services": ["signaling"]}, RelayPorts()),
        (
            {"services": ["signaling", "sfu"], "sfu": {"workers": 4, "udp_port": 7000}},
            RelayPorts(conferences=PortRange(7000, 7003)),
        ),
    ],
)
def test_the_pages_are_told_the_ports_of_the_configured_relay(
    tmp_path: Path, changes: dict[str, object], told: RelayPorts
) -> None:
    settings = Settings.model_validate({"state_dir": str(tmp_path), **changes})
    installation = _Installation(settings, open_state(settings, datetime.now(UTC)), lambda: settings)
    assert installation._relay_ports() == told


class LongConference:
    """Ends when its members have been asked for often enough."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.drained = False

    @property
    def members(self) -> int:
        self.looks -= 1
        return max(self.looks, 0)

    def drain(self) -> None:
        self.drained = True


async def test_a_drain_lets_conferences_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.assembly._DRAIN_LOOK_SECONDS", 0.0)
    settings = Settings.model_validate({"state_dir": str(tmp_path), "sfu": {"drain_seconds": 3600}})
    installation = _Installation(settings, open_state(settings, datetime.now(UTC)), lambda: settings)
    sfu = LongConference(5)
    installation._sfu = sfu  # type: ignore[assignment]  # as much of it as a drain needs
    await installation._drain()
    assert (sfu.drained, sfu.looks) == (True, 0)


@pytest.mark.parametrize("seconds", [0, 3600])
async def test_who_asks_twice_waits_for_no_conference(tmp_path: Path, seconds: int) -> None:
    settings = Settings.model_validate({"state_dir": str(tmp_path), "sfu": {"drain_seconds": seconds}})
    installation = _Installation(settings, open_state(settings, datetime.now(UTC)), lambda: settings)
    sfu = LongConference(1_000_000)
    installation._sfu = sfu  # type: ignore[assignment]  # as much of it as a drain needs
    installation._on_sigint()
    await installation._drain()
    assert not sfu.drained

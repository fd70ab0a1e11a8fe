"""A signaling service on a loopback port with held clocks, and a browser made of aiohttp's client."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from prometheus_client import CollectorRegistry

from signaling.appointments import Tier
from signaling.conference_media import ConferenceMedia
from signaling.connection_test import CertificateProblem
from signaling.ice_servers import RelayPorts
from signaling.io.clocks import Clocks
from signaling.io.service import SignalingService
from signaling.io.store import AppointmentStore
from signaling.settings import SignalingSettings

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
KEY = bytes(range(32))
WAIT_SECONDS = 10.0  # a bound for what comes at once; nothing waits it out


class HeldClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.monotonic = 5_000.0
        self.utc = START

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.utc += timedelta(seconds=seconds)


class FixedIssuer:
    """Stands in for the relay's credentials."""

    def __init__(self) -> None:
        self.subjects: list[bytes] = []

    def issue(self, now_unix: int, subject: bytes) -> tuple[str, str]:
        self.subjects.append(subject)
        return f"{now_unix + 600}:fixed", "password"


class FixedTrialIssuer:
    """Stands in for the relay's credentials for tests."""

    certificates_sha256 = ("ab" * 32,)

    def certificate_problem(self, host: str, now: datetime) -> CertificateProblem | None:
        return "other_name" if host == "other.example.org" and now.tzinfo is not None else None

    def issue(self, now_unix: int, lifetime: int, address: str) -> tuple[str, str]:
        return f"{now_unix + lifetime}:test:{ipaddress.ip_address(address)}", "trial password"


class Browser:
    """One WebSocket of a page."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, **message: Any) -> None:  # noqa: ANN401 - JSON
        await self.socket.send_json(message)

    async def receive(self) -> Any:  # noqa: ANN401 - JSON
        return await self.socket.receive_json(timeout=WAIT_SECONDS)

    async def join(self, locator: str, **resume: str) -> Any:  # noqa: ANN401 - JSON
        await self.send(type="join", loc=locator, **resume)
        return await self.receive()

    async def closed(self) -> int | None:
        """Wait for the end and return its code."""
        message = await self.socket.receive(timeout=WAIT_SECONDS)
        assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING}, message
        return self.socket.close_code


class Bench:
    """The running service and all that a test touches."""

    def __init__(self, store: AppointmentStore, web_root: Path, **settings: Any) -> None:  # noqa: ANN401
        ssl_context: ssl.SSLContext | None = settings.pop("ssl_context", None)
        media: ConferenceMedia | None = settings.pop("media", None)
        relay_ports: RelayPorts = settings.pop("relay_ports", RelayPorts((3478,), (3478,), (5349,)))
        self.clock = HeldClock()
        self.issuer = FixedIssuer()
        self.trials = FixedTrialIssuer()
        self.store = store
        self.registry = CollectorRegistry()
        # Port 0, any free one, is for tests only: settings refuse it.
        self.settings = SignalingSettings.model_validate({"listen_addresses": ["127.0.0.1"], **settings}).model_copy(
            update={"port": 0}
        )
        self.service = SignalingService(
            self.settings,
            store,
            issuer=self.issuer,
            relay_ports=relay_ports,
            trials=self.trials,
            registry=self.registry,
            ssl_context=ssl_context,
            web_root=web_root,
            clocks=Clocks(lambda: self.clock.monotonic, lambda: self.clock.utc),
        )
        if media is not None:
            self.service.use_media(media)

    async def __aenter__(self) -> Self:
        await self.service.start()
        self.url = f"http://127.0.0.1:{self.service.addresses[0][1]}"
        self.session = ClientSession()
        self._sockets: list[ClientWebSocketResponse] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self._sockets:  # aiohttp warns of those that are still open when they are collected
            await socket.close()
        await self.session.close()
        await self.service.stop()

    async def browser(self, origin: str | None = None) -> Browser:
        return Browser(await self.connect({"Origin": origin or self.url}))

    async def connect(self, headers: dict[str, str], *, autoping: bool = True) -> ClientWebSocketResponse:
        """Open a WebSocket; what is left of it when the test is over is closed then."""
        socket = await self.session.ws_connect(f"{self.url}/ws", headers=headers, autoping=autoping)
        self._sockets.append(socket)
        return socket

    async def plan(self, tier: Tier = Tier.BASIS, start: datetime = START) -> tuple[str, str]:
        new = await self.store.create(start, tier)
        return new.organiser_locator, new.participant_locator

    async def pair(self, locators: tuple[str, str]) -> tuple[Browser, Browser, Any, Any]:
        """Seat both and confirm them. Returns the browsers and what `joined` said."""
        organiser, participant = await self.browser(), await self.browser()
        first = await organiser.join(locators[0])
        second = await participant.join(locators[1])
        assert (await organiser.receive())["pid"] == second["pid"]
        assert (await participant.receive())["pid"] == first["pid"]
        await organiser.send(type="paired", peer=second["pid"], ok=True)
        await organiser.send(type="relay", to=second["pid"], blob="sync")
        assert (await participant.receive())["blob"] == "sync"
        await participant.send(type="paired", peer=first["pid"], ok=True)
        await participant.send(type="relay", to=first["pid"], blob="sync")
        assert (await organiser.receive())["blob"] == "sync"
        return organiser, participant, first, second

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"redconnect_signaling_{name}", labels)

    def pass_time(self, seconds: float) -> None:
        """Move the clock and let the endpoint do what is due, as its timer would."""
        self.clock.advance(seconds)
        self.service._endpoint.handle_timeout()

"""A lobby with sockets made of lists, for tests without any I/O."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from signaling.appointments import Appointment, Role, Seat, Tier
from signaling.conference_media import MediaCommand, MediaMessage
from signaling.events import Event
from signaling.ice_servers import IceServer
from signaling.lobby import Lobby
from signaling.rate_limiter import address_key, networks_around
from signaling.settings import SignalingSettings
from signaling.transmit import Close

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
ICE = (IceServer(urls=("stun:example.org:3478",)),)


def with_credential(expires_at: float) -> tuple[IceServer, ...]:
    """Servers whose credential lives until a monotonic instant; real ones name one of the wall clock."""
    password = SecretStr("password")
    return (*ICE, IceServer(urls=("turn:example.org:3478",), username=repr(expires_at), credential=password))


def credential_expiry(messages: list[dict[str, Any]]) -> float:
    """Until when the newest credential lives that a client was told."""
    told = [message["ice"] for message in messages if "ice" in message]
    return float(told[-1][-1]["username"])


def counting_entropy() -> Any:  # noqa: ANN401 - a callable
    """Bytes that never repeat, and do not hide a mix-up behind randomness."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size)


class Harness:
    """Plays the shell and all of its clients."""

    def __init__(self, *, turn: bool = False, media: bool = False, **settings: Any) -> None:  # noqa: ANN401
        self.settings = SignalingSettings.model_validate(settings)
        self.lobby = Lobby(self.settings, counting_entropy())
        if media:
            self.lobby.use_media()
        self.media: list[MediaCommand] = []
        self._has_turn = turn
        self.now = 1_000_000.25
        self.utc = START
        self.seats: dict[str, Seat] = {}
        self.inbox: dict[int, list[dict[str, Any]]] = {}
        self.closed: dict[int, int] = {}
        self.events: list[Event] = []
        self.answer_lookups = True

    def plan(self, number: int, tier: Tier = Tier.BASIS, start: datetime = START) -> tuple[str, str]:
        """Plan an appointment. Returns the locators of organiser and participant."""
        appointment = Appointment(bytes([number]) * 16, tier, start)
        organiser, participant = f"A{number:05d}", f"B{number:05d}"
        self.seats[organiser] = Seat(appointment, Role.ORGANISER, 0)
        self.seats[participant] = Seat(appointment, Role.PARTICIPANT, 1)
        return organiser, participant

    def plan_conference(self, number: int, participants: int, tier: Tier = Tier.PLUS) -> list[str]:
        """Plan a conference. Returns the locators by the numbers of their seats."""
        appointment = Appointment(bytes([number]) * 16, tier, START, participants)
        locators = [f"C{number:03d}{seat:02d}" for seat in range(participants + 1)]
        for seat, locator in enumerate(locators):
            self.seats[locator] = Seat(appointment, Role.PARTICIPANT if seat else Role.ORGANISER, seat)
        return locators

    def tell(self, client: int, said: MediaMessage, number: int = 1) -> None:
        """Let the media server of a conference say something to whom a client is or was."""
        self.lobby.tell(bytes([number]) * 16, self.pid(client), said)
        self.settle()

    def connect(self, address: str = "192.0.2.1") -> int:
        client = self.lobby.connect(address_key(address), self.now, networks_around(address))
        self.inbox[client] = []
        self.settle()
        return client

    def send(self, client: int, **message: Any) -> None:  # noqa: ANN401 - JSON
        self.send_text(client, json.dumps({key.rstrip("_"): value for key, value in message.items()}))

    def send_text(self, client: int, text: str) -> None:
        self.lobby.receive_text(client, text, self.now)
        self.settle()

    def join(self, locator: str, resume: str | None = None, address: str = "192.0.2.1") -> int:
        client = self.connect(address)
        if client not in self.closed:
            self.send(client, type="join", loc=locator, **({"resume": resume} if resume else {}))
        return client

    def pair(self, first: int, second: int) -> None:
        self.send(first, type="paired", peer=self.pid(second), ok=True)
        self.send(second, type="paired", peer=self.pid(first), ok=True)

    def disconnect(self, client: int) -> None:
        self.closed.setdefault(client, 1006)
        self.lobby.disconnect(client, self.now)
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, waking the lobby whenever it wants to be woken."""
        end = self.now + seconds
        self.utc += timedelta(seconds=seconds)
        while (due := self.lobby.poll_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.lobby.handle_timeout(self.now)
            self.settle()
            following = self.lobby.poll_timeout()
            assert following is None or following > self.now, "a timeout stays in the past"
        self.now = end

    def settle(self) -> None:
        while self.answer_lookups and (lookup := self.lobby.poll_lookup()) is not None:
            seat = self.seats.get(lookup.locator)
            self.lobby.finish_lookup(lookup.client, seat, self.ice() if seat else (), now=self.now, utc=self.utc)
        while (client := self.lobby.poll_renewal()) is not None:
            self.lobby.renew(client, self.ice(), self.now)
        while (output := self.lobby.poll_transmit()) is not None:
            assert output.client not in self.closed, "something was delivered to a closed socket"
            if isinstance(output, Close):
                self.closed[output.client] = output.code
            else:
                self.inbox[output.client].append(json.loads(output.text))
        while (command := self.lobby.poll_media()) is not None:
            self.media.append(command)
        while (event := self.lobby.poll_event()) is not None:
            self.events.append(event)

    def ice(self) -> tuple[IceServer, ...]:
        return with_credential(self.now + self.settings.ice.credential_lifetime_seconds) if self._has_turn else ICE

    def take(self, client: int) -> list[dict[str, Any]]:
        """Read and empty a client's inbox."""
        messages, self.inbox[client] = self.inbox[client], []
        return messages

    def joined(self, client: int) -> dict[str, Any]:
        return next(message for message in self.inbox[client] if message["type"] == "joined")

    def pid(self, client: int) -> str:
        pid = self.joined(client)["pid"]
        assert isinstance(pid, str)
        return pid

    def token(self, client: int) -> str:
        token = self.joined(client)["resume"]
        assert isinstance(token, str)
        return token

    def error(self, client: int) -> dict[str, Any]:
        assert self.closed.get(client) == 1008
        return self.inbox[client][-1]

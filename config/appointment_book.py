"""Where the command line makes appointments: in the database of this machine, or by the API of a running service."""

import asyncio
import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from config.schema import Settings
from config.state import StateError, read_private
from signaling.api_messages import (
    MAX_PAGE,
    AppointmentPage,
    AppointmentView,
    NewAppointmentView,
    Problem,
    add_locators,
    show_appointment,
)
from signaling.appointments import PlannedAppointment, Tier
from signaling.io.store import AppointmentStore, Position, StoreError, UnknownAppointment
from signaling.openapi import PREFIX

REQUEST_TIMEOUT_SECONDS: Final = 20.0
MAX_ANSWER_BYTES: Final = 1 << 20
MAX_PAGES: Final = 1000
MAX_SHOWN_CHARACTERS: Final = 300  # of a message of the server

Model = TypeVar("Model", bound=BaseModel)


class BookError(Exception):
    """It did not work; the message says in one line why."""


class AppointmentBook(Protocol):
    """Appointments of one organisation, or of this machine."""

    async def create(self, start: datetime, tier: Tier, participants: int = 1) -> NewAppointmentView:
        """Make an appointment of the organiser and so many participants, 1 to 19.

        Raises:
            BookError: it was refused, or nobody answers.
        """
        ...

    async def list_planned(self) -> list[AppointmentView]:
        """Every appointment that has not ended, by its planned start.

        Raises:
            BookError: they cannot be read.
        """
        ...

    async def move(self, appointment_id: str, start: datetime) -> AppointmentView:
        """Give an appointment another planned start.

        Raises:
            BookError: it was refused, there is none of this id, or nobody answers.
        """
        ...

    async def cancel(self, appointment_id: str) -> None:
        """Delete an appointment.

        Raises:
            BookError: there is none of this id, or nobody answers.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class LocalBook:
    """The appointments that the command line of this machine has made."""

    def __init__(self, store: AppointmentStore, settings: Settings) -> None:
        self._store = store
        self._signaling = settings.signaling

    async def create(self, start: datetime, tier: Tier, participants: int = 1) -> NewAppointmentView:
        """Make an appointment of the organiser and so many participants."""
        limit = self._signaling.conference_limit
        if participants > 1 and tier is not Tier.PLUS:
            raise BookError("more than one participant needs the tier plus")
        if participants > 1 and (reason := self._signaling.why_no_conferences) is not None:
            raise BookError(f"no conferences here: {reason}")
        if participants >= limit:
            raise BookError(f"at most {limit} people may meet, the organiser included (signaling.max_participants)")
        try:
            await self._store.open()
            new = await self._store.create(start, tier, participants=participants)
        except StoreError as error:
            raise _of_store(error) from error
        return add_locators(self._view(new.planned), new.organiser_locator, new.participant_locators)

    async def list_planned(self) -> list[AppointmentView]:
        """Every appointment that has not ended, by its planned start."""
        views: list[AppointmentView] = []
        after: Position | None = None
        try:
            await self._store.open()
            for _ in range(MAX_PAGES):
                page = await self._store.list_planned(None, since=self._oldest(), after=after)
                if not page:
                    break
                views += map(self._view, page)
                after = Position(page[-1].start, page[-1].id)
        except StoreError as error:
            raise _of_store(error) from error
        return views

    async def move(self, appointment_id: str, start: datetime) -> AppointmentView:
        """Give an appointment another planned start."""
        try:
            await self._store.open()
            return self._view(await self._store.move(_id(appointment_id), None, start, since=self._oldest()))
        except UnknownAppointment as error:
            raise _unknown() from error
        except StoreError as error:
            raise _of_store(error) from error

    async def cancel(self, appointment_id: str) -> None:
        """Delete an appointment."""
        try:
            await self._store.open()
            await self._store.cancel(_id(appointment_id), None)
        except UnknownAppointment as error:
            raise _unknown() from error
        except StoreError as error:
            raise _of_store(error) from error

    async def close(self) -> None:
        """Let go of connections."""
        await self._store.close()

    def _view(self, planned: PlannedAppointment) -> AppointmentView:
        return show_appointment(planned, self._signaling.window(planned.start))

    def _oldest(self) -> datetime:
        return self._signaling.oldest_start(datetime.now(UTC))


class RemoteBook:
    """The appointments of an organisation, by the API."""

    def __init__(self, server: str, token: str) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            server: address of the page.
            token: of the organisation.

        Raises:
            BookError: the token would travel unencrypted, or the address is none.
        """
        self._base = check_server(server)
        self._token = token

    async def create(self, start: datetime, tier: Tier, participants: int = 1) -> NewAppointmentView:
        """Make an appointment of the organiser and so many participants."""
        body = {"start": start.isoformat(timespec="seconds"), "tier": tier.value, "participants": participants}
        return _parse(NewAppointmentView, await self._ask("POST", "", body=body))

    async def list_planned(self) -> list[AppointmentView]:
        """Every appointment that has not ended, by its planned start."""
        views: list[AppointmentView] = []
        query = {"limit": str(MAX_PAGE)}
        for _ in range(MAX_PAGES):
            page = _parse(AppointmentPage, await self._ask("GET", "", query=query))
            views += page.appointments
            if page.next is None:
                break
            query["after"] = page.next
        return views

    async def move(self, appointment_id: str, start: datetime) -> AppointmentView:
        """Give an appointment another planned start."""
        body = {"start": start.isoformat(timespec="seconds")}
        return _parse(AppointmentView, await self._ask("PATCH", f"/{_id(appointment_id).hex()}", body=body))

    async def cancel(self, appointment_id: str) -> None:
        """Delete an appointment."""
        await self._ask("DELETE", f"/{_id(appointment_id).hex()}")

    async def close(self) -> None:
        """Nothing stays open between requests."""

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, str | int] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        url = f"{self._base}{PREFIX}/appointments{path}"
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with (
                asyncio.timeout(REQUEST_TIMEOUT_SECONDS),
                aiohttp.ClientSession(headers=headers) as session,
                # A redirect could carry the token to somebody else.
                session.request(method, url, json=body, params=query, allow_redirects=False) as response,
            ):
                answer = await _read(response)
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BookError(f"{self._base} does not answer: {type(error).__name__}") from error
        if status < HTTPStatus.OK or status >= HTTPStatus.MULTIPLE_CHOICES:
            raise BookError(_reason(status, answer))
        return answer


def read_token(path: Path) -> str:
    """Read the token of an organisation from a file that belongs to its owner alone.

    Raises:
        BookError: it cannot be read, is open to others, or holds no token.
    """
    try:
        token = read_private(path).decode("ascii").strip()
    except OSError as error:
        raise BookError(f"{path}: {error.strerror or type(error).__name__}") from error
    except StateError as error:
        raise BookError(str(error)) from error
    except UnicodeDecodeError as error:
        raise BookError(f"{path} holds no token") from error
    if not token or not token.isprintable() or " " in token:
        raise BookError(f"{path} holds no token")
    return token


def check_server(server: str) -> str:
    """Return the address of a service without a slash at its end.

    Raises:
        BookError: it is no address of a page, or the token would travel unencrypted through a network.
    """
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if (
        not host
        or port == 0
        or parts.scheme not in {"http", "https"}
        or parts.path not in {"", "/"}
        or parts.username is not None
        or parts.query
        or parts.fragment
    ):
        raise BookError("write the address of the page, such as https://video.example.org")
    if parts.scheme == "http" and not _is_this_machine(host):
        raise BookError("a token must not travel unencrypted; write https://")
    return f"{parts.scheme}://{parts.netloc}"


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    answer = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        answer += chunk
        if len(answer) > MAX_ANSWER_BYTES:
            raise BookError(f"the server answers with more than {MAX_ANSWER_BYTES} bytes")
    return bytes(answer)


def _reason(status: int, answer: bytes) -> str:
    try:
        message = Problem.model_validate_json(answer, strict=True).message
    except ValidationError:
        return f"the server answers with HTTP {status}; does --server name the page of redconnect?"
    return f"refused: {ascii(message[:MAX_SHOWN_CHARACTERS])[1:-1]}"


def _parse(model: type[Model], answer: bytes) -> Model:
    try:
        return model.model_validate_json(answer, strict=True)
    except ValidationError as error:
        raise BookError("the server's answer is not what this version understands") from error


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise _unknown() from None


def _unknown() -> BookError:
    return BookError("there is no such appointment; `redconnect appointment list` shows their ids")


def _of_store(error: StoreError) -> BookError:
    return BookError(f"{error}: {type(error.__cause__).__name__}; check database_url and state_dir")

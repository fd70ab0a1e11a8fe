"""The messages of the signaling protocol (docs/signaling.md, "Messages"): bounds, parser, encoder."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, StringConstraints, TypeAdapter

from signaling.appointments import Role, Tier
from signaling.conference_messages import ConferenceNews, ConferenceRequest, ConferenceSeat
from signaling.ice_servers import IceServer
from signaling.message_base import Message, OpaqueId

MAX_MESSAGE_BYTES = 65_536
MAX_BLOB_CHARACTERS = 65_000  # leaves room for the message around it


class ErrorCode(StrEnum):
    """Why the server ends an attempt. From `tier` to `removed` they belong to conferences."""

    UNKNOWN_CODE = "unknown_code"
    CODE_IN_USE = "code_in_use"
    EXPIRED = "expired"
    TOO_EARLY = "too_early"
    RATE_LIMITED = "rate_limited"
    OVERLOAD = "overload"
    TIER = "tier"
    NO_CONFERENCES = "no_conferences"
    ROOM_FULL = "room_full"
    LOCKED = "locked"
    REFUSED = "refused"
    REMOVED = "removed"
    BAD_MESSAGE = "bad_message"


class MessageFault(StrEnum):
    """What is wrong with a client's message, or with its moment."""

    TOO_LONG = "too_long"
    NOT_TEXT = "not_text"
    MALFORMED = "malformed"
    UNEXPECTED = "unexpected"
    TOO_FAST = "too_fast"
    NO_JOIN = "no_join"


class MessageError(Exception):
    """The bytes are no message of this protocol. The detail never repeats them."""

    def __init__(self, fault: MessageFault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault


LocatorText = Annotated[str, StringConstraints(pattern=r"^[0-9A-HJKMNP-TV-Z]{6}$")]
# Both base64 alphabets: such a blob is as long in JSON as it is, and needs no escaping on its way.
Blob = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/_=.-]+$", max_length=MAX_BLOB_CHARACTERS)]
Instant = Annotated[datetime, PlainSerializer(lambda value: f"{value:%Y-%m-%dT%H:%M:%SZ}", return_type=str)]


class Join(Message):
    """Take the seat of a locator, with the token of an earlier `joined` if there is one."""

    type: Literal["join"] = "join"
    loc: LocatorText
    resume: OpaqueId | None = None


class RelayToPeer(Message):
    """Hand an opaque blob to another client of the room."""

    type: Literal["relay"] = "relay"
    to: OpaqueId
    blob: Blob


class Paired(Message):
    """This client has, or has not, verified that the peer belongs to the same appointment."""

    type: Literal["paired"] = "paired"
    peer: OpaqueId
    ok: bool


class Leave(Message):
    """Give the seat up at once."""

    type: Literal["leave"] = "leave"


ClientMessage = Join | RelayToPeer | Paired | Leave | ConferenceRequest


class Joined(Message):
    """The seat is yours."""

    type: Literal["joined"] = "joined"
    room: OpaqueId
    pid: OpaqueId
    role: Role
    tier: Tier
    features: tuple[str, ...]
    start: Instant
    end: Instant
    resume: OpaqueId
    ice: tuple[IceServer, ...]
    conference: ConferenceSeat | None = None


class Peer(Message):
    """Another client of this room is here, or is gone.

    `since` is told to an organiser about a participant who has been waiting for longer than the organiser is here.
    `index` and `admitted` are told in conferences.
    """

    type: Literal["peer"] = "peer"
    pid: OpaqueId
    role: Role
    present: bool
    since: Instant | None = None
    index: int | None = None
    admitted: bool | None = None


class RelayFromPeer(Message):
    """A blob from another client."""

    type: Literal["relay"] = "relay"
    sender: Annotated[OpaqueId, Field(serialization_alias="from")]
    blob: Blob


class Ice(Message):
    """The servers of `joined` with a fresh credential, before the last one ends."""

    type: Literal["ice"] = "ice"
    ice: tuple[IceServer, ...]


class Drain(Message):
    """The server is about to stop: connect again."""

    type: Literal["drain"] = "drain"


class Error(Message):
    """Why not. The socket closes after it."""

    type: Literal["error"] = "error"
    code: ErrorCode
    retry_after: int | None = Field(None, ge=1)  # seconds
    start: Instant | None = None
    limit: int | None = Field(None, ge=2)  # participants


ServerMessage = Joined | Peer | RelayFromPeer | Ice | Drain | Error | ConferenceNews

_CLIENT_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def parse_client_message(text: str) -> ClientMessage:
    """Read one text message of a client.

    Raises:
        MessageError: it is longer than 64 KiB in UTF-8, no JSON, or no message of the protocol.
    """
    if len(text) > MAX_MESSAGE_BYTES:  # before encoding: nobody makes us copy megabytes
        raise MessageError(MessageFault.TOO_LONG, f"{len(text)} characters")
    try:
        data = text.encode()
        if len(data) <= MAX_MESSAGE_BYTES:
            return _CLIENT_MESSAGE.validate_json(data)
    except ValueError as error:  # of which pydantic's and Unicode's errors are kinds
        raise MessageError(MessageFault.MALFORMED, type(error).__name__) from None
    raise MessageError(MessageFault.TOO_LONG, f"{len(data)} bytes")


def encode_server_message(message: ServerMessage) -> str:
    """Write one message of the server as JSON text, without the keys that say nothing."""
    return message.model_dump_json(by_alias=True, exclude_none=True)

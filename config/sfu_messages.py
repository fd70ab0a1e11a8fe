"""What SFU workers and their supervisor say to each other: JSON objects with bounds, read to the letter.

A worker handles bytes of strangers, so what it says is believed no more than what they say.
"""

from dataclasses import fields
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, TypeAdapter, ValidationError

from config.channel import ChannelError
from sfu.sdp.description import MAX_SDP_BYTES
from signaling import conference_media as media
from signaling.conference_messages import MAX_SOURCES, MAX_WISHES, Mid, Pixels, Sdp
from signaling.message_base import OpaqueId

ROOM_BYTES: Final = 16
MAX_MIDS: Final = 128  # m-lines of one subscribing connection
MAX_SPEAKERS: Final = 3
MAX_LAYERS: Final = 4
# An answer is longer than its offer by what each m-line says of us, and an offer to the largest room longer than any of
# a page: one that is refused here ends a worker.
MAX_OWN_SDP_BYTES: Final = 2 * MAX_SDP_BYTES
MAX_OFFERS: Final = 1 << 24  # to one participant, by one worker


def _read_room(value: object) -> object:
    return bytes.fromhex(value) if isinstance(value, str) else value


Room = Annotated[bytes, BeforeValidator(_read_room), Field(min_length=ROOM_BYTES, max_length=ROOM_BYTES)]
OwnSdp = Annotated[str, StringConstraints(max_length=MAX_OWN_SDP_BYTES)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z_]+$", max_length=32)]
Rid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+$", max_length=16)]


class _Wire(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    room: Room
    pid: OpaqueId


class _Enter(_Wire):
    kind: Literal["enter"]


class _Leave(_Wire):
    kind: Literal["leave"]


class _Offer(_Wire):
    kind: Literal["offer"]
    sdp: Sdp
    version: int = Field(ge=0, lt=2**31)
    sources: Annotated[dict[Mid, media.Source], Field(min_length=1, max_length=MAX_SOURCES)]


class _Answer(_Wire):
    kind: Literal["answer"]
    sdp: Sdp
    version: int = Field(ge=1, le=MAX_OFFERS)


class _Look(_Wire):
    kind: Literal["look"]
    wishes: Annotated[
        tuple[tuple[OpaqueId, media.Source, bool, Pixels, Pixels, bool], ...], Field(max_length=MAX_WISHES)
    ]


class _OfferAgain(_Wire):
    kind: Literal["offeragain"]


class _Published(_Wire):
    kind: Literal["published"]
    sdp: OwnSdp
    version: int = Field(ge=0, lt=2**31)


class _Subscribe(_Wire):
    kind: Literal["subscribe"]
    sdp: OwnSdp
    version: int = Field(ge=1, le=MAX_OFFERS)
    tracks: Annotated[dict[Mid, tuple[OpaqueId, media.Source]], Field(max_length=MAX_MIDS)]


class _Speakers(_Wire):
    kind: Literal["speakers"]
    pids: Annotated[tuple[OpaqueId, ...], Field(max_length=MAX_SPEAKERS)]


class _Layers(_Wire):
    kind: Literal["layers"]
    unwanted: Annotated[tuple[Rid, ...], Field(max_length=MAX_LAYERS)]


class _MediaState(_Wire):
    kind: Literal["mediastate"]
    side: media.Side
    state: media.ConnectionState
    reason: Word | None


_COMMANDS: Final[TypeAdapter[_Enter | _Leave | _Offer | _Answer | _Look | _OfferAgain]] = TypeAdapter(
    Annotated[_Enter | _Leave | _Offer | _Answer | _Look | _OfferAgain, Field(discriminator="kind")]
)
_SAID: Final[TypeAdapter[_Published | _Subscribe | _Speakers | _Layers | _MediaState]] = TypeAdapter(
    Annotated[_Published | _Subscribe | _Speakers | _Layers | _MediaState, Field(discriminator="kind")]
)


def encode_command(command: media.MediaCommand) -> dict[str, Any]:
    """What a worker is to do, as JSON values."""
    return {**_encode(command), "room": command.room.hex()}


def encode_said(room: bytes, pid: str, message: media.MediaMessage) -> dict[str, Any]:
    """What a worker says to a participant, as JSON values."""
    return {**_encode(message), "room": room.hex(), "pid": pid}


def decode_command(values: object) -> media.MediaCommand:
    """Read what `encode_command` wrote.

    Raises:
        ChannelError: it is something else, or breaks a bound.
    """
    try:
        wire = _COMMANDS.validate_python(values)
    except ValidationError as error:
        raise ChannelError(f"no command for the SFU: {_reason(error)}") from None
    room, pid = wire.room, wire.pid
    match wire:
        case _Enter():
            return media.Enter(room, pid)
        case _Leave():
            return media.Leave(room, pid)
        case _Offer(sdp=sdp, version=version, sources=sources):
            return media.Offer(room, pid, sdp, version, sources)
        case _Answer(sdp=sdp, version=version):
            return media.Answer(room, pid, sdp, version)
        case _Look(wishes=wishes):
            return media.Look(room, pid, tuple(media.Wish(*wish) for wish in wishes))
        case _OfferAgain():
            return media.OfferAgain(room, pid)


def decode_said(values: object) -> tuple[bytes, str, media.MediaMessage]:
    """Read what `encode_said` wrote: room, participant, what it is told.

    Raises:
        ChannelError: it is something else, or breaks a bound.
    """
    try:
        wire = _SAID.validate_python(values)
    except ValidationError as error:
        raise ChannelError(f"nothing that the SFU says: {_reason(error)}") from None
    message: media.MediaMessage
    match wire:
        case _Published(sdp=sdp, version=version):
            message = media.Published(sdp, version)
        case _Subscribe(sdp=sdp, version=version, tracks=tracks):
            message = media.Subscribe(sdp, version, {mid: media.TrackName(*track) for mid, track in tracks.items()})
        case _Speakers(pids=pids):
            message = media.Speakers(pids)
        case _Layers(unwanted=unwanted):
            message = media.Layers(unwanted)
        case _MediaState(side=side, state=state, reason=reason):
            message = media.MediaState(side, state, reason)
    return wire.room, wire.pid, message


def _encode(value: media.MediaCommand | media.MediaMessage) -> dict[str, Any]:
    return {"kind": type(value).__name__.lower(), **{each.name: getattr(value, each.name) for each in fields(value)}}


def _reason(error: ValidationError) -> str:
    """The first mistake, without what was said."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'][:2]))}: {first['type']}"

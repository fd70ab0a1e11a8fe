"""What signaling nodes say to each other, and what they keep of a room for each other (docs/nodes.md).

A message is a kind (1 byte), the number of a client at the node that has its socket (8 bytes), and the rest. The
bytes come from another process: they parse, or they raise `NodeMessageError`.
"""

import struct
from datetime import UTC
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Base64Bytes, BaseModel, Field, TypeAdapter

from signaling.appointments import ROOM_ID_BYTES, Appointment, Role, Seat, Tier
from signaling.ice_servers import IceServer
from signaling.message_base import OpaqueId
from signaling.messages import MAX_MESSAGE_BYTES
from signaling.room import ClaimRecord
from signaling.transmit import CLOSE_GOING_AWAY, CLOSE_NORMAL, CLOSE_POLICY

NODE_ID_BYTES = 12
MAX_ADDRESS_BYTES = 32
MAX_ICE_SERVERS = 8
MAX_STORED_CLAIMS = 32  # both seats of a room, `claims_per_seat` at its highest
MAX_STORED_BYTES = 16_384

_HEADER = struct.Struct("!BQ")
_CLOSE_CODE = struct.Struct("!H")
_CLOSE_CODES = frozenset({CLOSE_NORMAL, CLOSE_GOING_AWAY, CLOSE_POLICY})
MAX_NODE_MESSAGE_BYTES = _HEADER.size + MAX_MESSAGE_BYTES

NodeId = bytes  # of one connection of one node to the bus: a node that comes back is another one


class NodeMessageError(Exception):
    """The bytes are no message between nodes. The detail never repeats them."""


class Arrive(NamedTuple):
    """A client here wants a seat in a room there."""

    client: int
    address: bytes  # whom to count it for, no address in the clear
    resume: str | None
    seat: Seat
    ice: tuple[IceServer, ...]


class ClientText(NamedTuple):
    """A message of a client that has arrived."""

    client: int
    text: str


class Gone(NamedTuple):
    """The socket of a client that has arrived has ended."""

    client: int


class Deliver(NamedTuple):
    """A text for a client that has arrived."""

    client: int
    text: str
    droppable: bool = False  # see `Transmit`


class Shut(NamedTuple):
    """The socket of a client that has arrived is to be closed."""

    client: int
    code: int


class Stray(NamedTuple):
    """The room of a client that has arrived is not here: look for it again."""

    client: int


NodeMessage = Arrive | ClientText | Gone | Deliver | Shut | Stray


class _ArriveBody(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    address: Annotated[Base64Bytes, Field(max_length=MAX_ADDRESS_BYTES)]
    resume: OpaqueId | None
    room: Annotated[Base64Bytes, Field(min_length=ROOM_ID_BYTES, max_length=ROOM_ID_BYTES)]
    role: Role
    tier: Tier
    start: AwareDatetime
    ice: Annotated[tuple[IceServer, ...], Field(max_length=MAX_ICE_SERVERS)]


class _StoredClaim(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    pid: OpaqueId
    role: Role
    address: Annotated[Base64Bytes, Field(max_length=MAX_ADDRESS_BYTES)]
    token: OpaqueId
    confirmed: bool
    since: AwareDatetime | None = None


_STORED: TypeAdapter[tuple[_StoredClaim, ...]] = TypeAdapter(
    Annotated[tuple[_StoredClaim, ...], Field(max_length=MAX_STORED_CLAIMS)]
)


def encode_node_message(message: NodeMessage) -> bytes:
    """Write one message between nodes."""
    kind = _DROPPABLE if isinstance(message, Deliver) and message.droppable else _KINDS[type(message)]
    rest = b""
    match message:
        case Arrive():
            rest = _encode_arrival(message)
        case ClientText(text=text) | Deliver(text=text):
            rest = text.encode()
        case Shut(code=code):
            rest = _CLOSE_CODE.pack(code)
    return _HEADER.pack(kind, message.client) + rest


def parse_node_message(data: bytes) -> NodeMessage:
    """Read one message between nodes.

    Raises:
        NodeMessageError: it is longer than `MAX_NODE_MESSAGE_BYTES`, or follows no format of this page.
    """
    if not _HEADER.size <= len(data) <= MAX_NODE_MESSAGE_BYTES:
        raise NodeMessageError(f"{len(data)} bytes")
    kind, client = _HEADER.unpack_from(data)
    rest = data[_HEADER.size :]
    try:
        match kind:
            case 1:
                return _parse_arrival(client, rest)
            case 2:
                return ClientText(client, rest.decode())
            case 4 | 7:
                return Deliver(client, rest.decode(), droppable=kind == _DROPPABLE)
            case 5:
                return Shut(client, _parse_close_code(rest))
            case 3 | 6 if not rest:
                return Gone(client) if kind == 3 else Stray(client)
    except (ValueError, OverflowError) as error:  # pydantic's and Unicode's errors; an instant outside of UTC's years
        raise NodeMessageError(type(error).__name__) from None
    raise NodeMessageError(f"kind {kind} with {len(rest)} bytes")


def encode_claims(claims: tuple[ClaimRecord, ...]) -> bytes:
    """Write the claims of a room for the node that has it next."""
    stored = tuple(
        _StoredClaim.model_construct(
            pid=claim.pid,
            role=claim.role,
            address=claim.address,
            token=claim.token,
            confirmed=claim.confirmed,
            since=claim.waiting_since,
        )
        for claim in claims
    )
    return _STORED.dump_json(stored)


def parse_claims(data: bytes) -> tuple[ClaimRecord, ...]:
    """Read the claims of a room.

    Raises:
        NodeMessageError: there are more than `MAX_STORED_BYTES`, or they describe no claims.
    """
    if len(data) > MAX_STORED_BYTES:
        raise NodeMessageError(f"{len(data)} bytes of claims")
    try:
        return tuple(map(_claim_record, _STORED.validate_json(data)))
    except (ValueError, OverflowError) as error:  # in UTC an instant may lie before the year 1
        raise NodeMessageError(type(error).__name__) from None


def _claim_record(stored: _StoredClaim) -> ClaimRecord:
    since = None if stored.since is None else stored.since.astimezone(UTC)
    return ClaimRecord(stored.pid, stored.role, stored.address, stored.token, stored.confirmed, since)


_KINDS: dict[type[NodeMessage], int] = {Arrive: 1, ClientText: 2, Gone: 3, Deliver: 4, Shut: 5, Stray: 6}
_DROPPABLE = 7  # a Deliver


def _encode_arrival(message: Arrive) -> bytes:
    appointment, role, _ = message.seat
    body = _ArriveBody.model_construct(
        address=message.address,
        resume=message.resume,
        room=appointment.room_id,
        role=role,
        tier=appointment.tier,
        start=appointment.start,
        ice=message.ice,
    )
    return body.model_dump_json().encode()


def _parse_arrival(client: int, rest: bytes) -> Arrive:
    body = _ArriveBody.model_validate_json(rest)
    # Conferences are at nodes that are alone: the two seats of a talk have the numbers of their roles.
    seat = Seat(Appointment(body.room, body.tier, body.start), body.role, int(body.role is Role.PARTICIPANT))
    return Arrive(client, body.address, body.resume, seat, body.ice)


def _parse_close_code(rest: bytes) -> int:
    if len(rest) != _CLOSE_CODE.size:
        raise NodeMessageError(f"{len(rest)} bytes of close code")
    code: int = _CLOSE_CODE.unpack(rest)[0]
    if code not in _CLOSE_CODES:
        raise NodeMessageError(f"close code {code}")
    return code

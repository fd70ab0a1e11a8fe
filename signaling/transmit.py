"""What a sans-IO lobby asks its shell to do."""

from typing import NamedTuple

CLOSE_NORMAL = 1000  # RFC 6455 §7.4.1, like the next two
CLOSE_GOING_AWAY = 1001
CLOSE_POLICY = 1008


class Transmit(NamedTuple):
    """Text for one socket."""

    client: int
    text: str
    droppable: bool = False  # a stranger's blob: if the socket is slow it is left out, rather than ending the socket


class Close(NamedTuple):
    """Close one socket, after all that was transmitted to it before."""

    client: int
    code: int


class Forward(NamedTuple):
    """A message of a client whose seat another lobby has; it follows the protocol."""

    client: int
    text: str


class Lookup(NamedTuple):
    """The appointment of this locator is wanted, for this client."""

    client: int
    locator: str

"""What listeners, connections and the forwarding plane know of each other.

A listener or connection hands media to the `ClientRelay` that the plane attached to it, and everything else to
`Clients`, the service, which asks the control plane. The plane reaches a client through its `ClientLink`.
"""

from abc import ABC, abstractmethod
from typing import Protocol

from relay.five_tuple import FiveTuple
from stun.address import TransportAddress

Buffer = bytes | memoryview


class ClientLink(Protocol):
    """How relayed messages reach one client. They lie in buffers that are overwritten after the call."""

    pads: bool  # whether every message has to be padded to four bytes (streams: RFC 8656 §12.5)

    def send(self, message: Buffer) -> None:
        """Send one whole message, padded already if `pads`.

        Raises:
            OSError: it was not sent; `NotSent` when the link dropped it by itself.
        """
        ...

    def send_burst(self, messages: Buffer, size: int) -> None:
        """Send several messages of `size` bytes each (the last may be shorter), one behind the other.

        Raises:
            OSError: at least one of them was not sent.
        """
        ...


class ClientRelay(ABC):
    """All that is relayed for one client, as its listener or connection sees it.

    A base class, because it is called for every packet: compiled code calls the methods of a Protocol by name.
    """

    @abstractmethod
    def from_client(self, view: memoryview, start: int, end: int, now: float) -> bool:
        """Take the ChannelData or STUN message at `view[start:end]`, for instance into a burst.

        Returns False if the control plane has to look at it. The bytes stay as they are until `flush`.
        """

    @abstractmethod
    def relay_one(self, view: memoryview, size: int, head: int, now: float) -> bool:
        """Relay the ChannelData or STUN message in `view[:size]`, nothing being collected; it came alone.

        `head` is its first four bytes as a number.
        Returns False, and has done nothing, if the control plane has to look at it.
        """

    @abstractmethod
    def relay_run(self, view: memoryview, size: int, segment: int, head: int, now: float) -> bool:
        """Relay a joined run of datagrams in `view[:size]` at once, `segment` bytes each, the last may be shorter.

        `head` is the first four bytes of the first one as a number. The buffer is changed.
        Returns False, and has done nothing, if each of them has to be looked at by `from_client`.
        """

    @abstractmethod
    def flush(self) -> None:
        """Send what `from_client` has collected; to be called before the buffer is used again."""


class Connection(ClientLink, Protocol):
    """A client that has a socket or a cryptographic association of its own: TCP, TLS, DTLS."""

    path: FiveTuple

    def send_message(self, data: bytes) -> None:
        """Send a STUN message; never dropped in favour of media."""
        ...

    def attach(self, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay."""
        ...

    def detach(self) -> None:
        """The client has no relay any more."""
        ...

    def abort(self) -> None:
        """Close without a farewell; `Clients.disconnected` is called before this returns or soon after."""
        ...


class Clients(Protocol):
    """The service, as listeners and connections see it."""

    def receive(self, data: bytes, path: FiveTuple) -> None:
        """Take a message that is not for the forwarding plane."""
        ...

    def connected(self, connection: Connection) -> None:
        """Register a connection whose path is known."""
        ...

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection, and the allocation that came over it."""
        ...


class Links(Protocol):
    """The service, as the forwarding plane sees it."""

    def link(self, path: FiveTuple) -> ClientLink:
        """How messages reach this client.

        Raises:
            LookupError: the client has gone.
        """
        ...

    def attach(self, path: FiveTuple, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay."""
        ...

    def detach(self, path: FiveTuple) -> None:
        """The client has no relay any more."""
        ...


class Listener(Protocol):
    """A bound datagram socket that many clients share."""

    address: TransportAddress

    def send(self, data: bytes, client: TransportAddress) -> None:
        """Send a STUN message to a client; if the buffer is full it is lost, and the client retransmits."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...

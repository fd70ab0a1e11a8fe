"""One WebSocket of a page, blocking: gevent makes it wait without a thread."""

import json
import socket
import time
from typing import Any, Final, Self

from websocket import WebSocket, WebSocketTimeoutException, create_connection

PATIENCE_SECONDS: Final = 30.0
# What pages say: parts of the key agreement and candidates are short, a description is long. The mean is 989.
BLOB_SIZES: Final = (256, 600, 1_100, 2_000)
_NO_DELAY: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)  # as in browsers
_NORMAL_CLOSURE: Final = 1000


class UnexpectedAnswer(Exception):
    """The server has said something else than what the protocol says at this point."""


class Refused(UnexpectedAnswer):
    """The server has said no, by an `error` (docs/signaling.md)."""

    def __init__(self, code: str, wanted: str, retry_after: int | None) -> None:
        """Remember what was said.

        Args:
            code: of the error.
            wanted: the type of the message that should have come.
            retry_after: seconds after which the same may succeed, if the server has said so.
        """
        super().__init__(f"error ({code}) instead of {wanted}")
        self.code = code
        self.retry_after = retry_after


class Seat:
    """A socket at `/ws` of a server."""

    def __init__(self, socket_: WebSocket) -> None:
        self._socket = socket_
        self.pid = ""

    @classmethod
    def connect(cls, url: str) -> Self:
        """Open a socket as a page of this server would.

        Args:
            url: of the pages, `http://HOST:PORT`.
        """
        return cls(
            create_connection(
                f"ws{url.removeprefix('http')}/ws",
                origin=url,
                timeout=PATIENCE_SECONDS,
                sockopt=_NO_DELAY,
                enable_multithread=False,
            )
        )

    def join(self, locator: str) -> int:
        """Take a seat; returns the length of the answer in characters.

        Raises:
            Refused: the seat is.
            UnexpectedAnswer: something else than an answer comes.
        """
        self.send({"type": "join", "loc": locator})
        text = self.receive()
        self.pid = _read(text, "joined")["pid"]
        return len(text)

    def meet(self, other: str) -> None:
        """Hear that another participant is there.

        Raises:
            UnexpectedAnswer: it is somebody else, or something else is said.
        """
        message = _read(self.receive(), "peer")
        if (message["pid"], message["present"]) != (other, True):
            raise UnexpectedAnswer("another peer than the one that has joined")

    def verify(self, other: str) -> None:
        """Report that a participant belongs to the same appointment."""
        self.send({"type": "paired", "peer": other, "ok": True})

    def say(self, other: str, blob: str) -> None:
        """Hand a blob over."""
        self.send({"type": "relay", "to": other, "blob": blob})

    def hear(self, other: str, blob: str) -> None:
        """Get the next blob.

        Raises:
            UnexpectedAnswer: it is another one, or of somebody else.
        """
        message = _read(self.receive(), "relay")
        if message["from"] != other or message["blob"] != blob:
            raise UnexpectedAnswer("another blob than the one that was sent")

    def stay(self, seconds: float) -> None:
        """Keep the seat as a page does: answer pings, and take fresh credentials.

        Raises:
            UnexpectedAnswer: anything else comes.
        """
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                try:
                    _read(self.receive(), "ice")
                except WebSocketTimeoutException:
                    return
        finally:
            self._socket.settimeout(PATIENCE_SECONDS)

    def leave(self) -> None:
        """Give the seat up and wait until the server has closed the socket.

        Raises:
            UnexpectedAnswer: the server closes with another code than 1000.
        """
        self.send({"type": "leave"})
        while True:
            opcode, data = self._socket.recv_data()
            if opcode == 8:  # RFC 6455 §5.5.1: two bytes of status code, then the reason
                if int.from_bytes(data[:2]) != _NORMAL_CLOSURE:
                    raise UnexpectedAnswer(f"closed with {int.from_bytes(data[:2])}")
                break
        self.end()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.send_text(json.dumps(message))

    def send_text(self, text: str) -> None:
        """Send a text."""
        self._socket.send(text)

    def receive(self) -> str:
        """Wait for the next text.

        Raises:
            UnexpectedAnswer: the socket has been closed instead.
        """
        text = self._socket.recv()
        if not isinstance(text, str) or not text:
            raise UnexpectedAnswer("the end of the socket")
        return text

    def end(self) -> None:
        """Close the socket, whatever the server thinks."""
        self._socket.close()


def _read(text: str, wanted: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(text)
    if message["type"] == "error":
        raise Refused(message["code"], wanted, message.get("retry_after"))
    if message["type"] != wanted:
        raise UnexpectedAnswer(f"{message['type']} instead of {wanted}")
    return message

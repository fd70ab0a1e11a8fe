"""Relayed calls that go on in the background at the rate of a voice, while the test breaks something around them."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from tests.support.service import LOOK_EVERY_SECONDS
from tests.support.wire_client import Peer, Server, WireClient

PACKET_SECONDS: Final = 0.02  # of sound in one packet: fifty a second each way
PACKET_BYTES: Final = 160  # of sealed sound, about
CHANNEL: Final = 0x4000
MORE_PACKETS: Final = 25  # that show that a call goes on
PATIENCE: Final = 30.0  # seconds for them; nothing waits it out


class CallBroken(AssertionError):
    """A call lost a packet, got another one than it was sent, or was refused."""


class Call:
    """One allocation and its peer. Each packet is awaited at its other end before the next one is sent."""

    def __init__(self, client: WireClient, peer: Peer) -> None:
        self._client = client
        self._peer = peer
        self._relayed = client.relayed()
        self._broken: BaseException | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self.carried = 0  # packets that went there, and as many that came back
        if client.bind(CHANNEL, peer.address).code != 0:
            raise CallBroken("the channel was not bound")
        self._thread.start()

    def raise_if_broken(self) -> None:
        """Tell what ended the call, if anything did.

        Raises:
            CallBroken: it has ended.
        """
        if self._broken is not None:
            raise CallBroken(f"after {self.carried} packets each way: {self._broken!r}") from self._broken

    def stop(self) -> None:
        """Say nothing more; the allocation stays."""
        self._is_over.set()
        self._thread.join()

    def finish(self) -> None:
        """Stop, and look whether the allocation is still there; then give it back.

        Raises:
            CallBroken: it is not, or the call broke before.
        """
        self.stop()
        self.raise_if_broken()
        if self._client.refresh().code != 0:
            raise CallBroken("the allocation has gone")
        self._client.close()

    def refresh(self) -> int:
        """The code of an answer to a Refresh, once the call has stopped."""
        return self._client.refresh().code

    def _go_on(self) -> None:
        try:
            while not self._is_over.is_set():
                began = time.monotonic()
                self._carry()
                self.carried += 1
                self._is_over.wait(max(0.0, began + PACKET_SECONDS - time.monotonic()))
        except (OSError, AssertionError, ValueError) as error:
            self._broken = error

    def _carry(self) -> None:
        packet = b"%d " % self.carried
        packet += bytes(PACKET_BYTES - len(packet))
        self._client.send_through(CHANNEL, packet)
        if self._peer.receive() != (packet, self._relayed):
            raise CallBroken("another packet came to the peer")
        self._peer.send(packet, self._relayed)
        if self._client.receive_channel_data() != (CHANNEL, packet):
            raise CallBroken("another packet came from the peer")


class Calls:
    """Some calls that run at the same time."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def go_on(self) -> None:
        """Wait until every call has carried so much more that it surely goes on.

        Raises:
            CallBroken: one has lost a packet, or stands still.
        """
        wanted = [(call, call.carried + MORE_PACKETS) for call in self._calls]
        deadline = time.monotonic() + PATIENCE
        while any(call.carried < count for call, count in wanted):
            for call in self._calls:
                call.raise_if_broken()
            if time.monotonic() > deadline:
                raise CallBroken(f"a call stands still after {[call.carried for call in self._calls]} packets")
            time.sleep(LOOK_EVERY_SECONDS)


@contextlib.contextmanager
def running_calls(relay: Server, transports: Sequence[str] = ("udp", "udp", "tcp", "tls")) -> Iterator[Calls]:
    """Let calls run, one over each of these transports; at the end not one packet of any may be missing.

    Raises:
        CallBroken: a call lost a packet, or its allocation.
    """
    with contextlib.ExitStack() as stack:
        calls = Calls(
            [
                Call(
                    stack.enter_context(contextlib.closing(relay.client(transport))),
                    stack.enter_context(contextlib.closing(Peer("127.0.0.1"))),
                )
                for transport in transports
            ]
        )
        for call in calls:
            stack.callback(call.stop)
        calls.go_on()
        yield calls
        for call in calls:
            call.finish()

"""Tells the service manager how the service is: started, reloading, stopping, alive. See sd_notify(3).

Without a service manager there is nobody to tell, and nothing happens. No library: a message is a datagram of lines.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final, Self

_LOGGER: Final = logging.getLogger(__name__)
_SOCKET: Final = "NOTIFY_SOCKET"
_WATCHDOG: Final = "WATCHDOG_USEC"
_WATCHDOG_PID: Final = "WATCHDOG_PID"
_MICROSECONDS: Final = 1_000_000
_PINGS_PER_PERIOD: Final = 3  # one of them may be late, or lost, and the service is not killed for it
_STOP_GRACE_SECONDS: Final = 10  # after a drain: what `stop` of every part takes at most, and a moment


class Notifier:
    """Speaks to the service manager; every method is harmless without one, and after `close`."""

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        """Prepare.

        Args:
            address: path of the manager's socket, or with `@` in front its abstract name; empty: there is no manager.
            watchdog_seconds: silence after which the manager ends the service; 0: it does not.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds if address else 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None
        self._watchdog: asyncio.Task[None] | None = None
        self._is_heard = True
        self._is_stopping = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int | None = None) -> Self:
        """What the manager has said about itself; a watchdog that is meant for another process is not ours.

        Args:
            environment: the variables of this process.
            pid: of this process; None: look.

        Raises:
            ValueError: the manager gives a period that is no number.
        """
        microseconds = int(environment.get(_WATCHDOG, "0"))
        watched = environment.get(_WATCHDOG_PID, "")
        if watched and int(watched) != (os.getpid() if pid is None else pid):
            microseconds = 0
        return cls(environment.get(_SOCKET, ""), microseconds / _MICROSECONDS)

    def tell_ready(self) -> None:
        """The service has started, or has taken a reload into use or refused it; its watchdog begins."""
        if self._is_stopping:
            return  # a reload that the end has overtaken
        self._send("READY=1", "STATUS=ready")
        if self._watchdog_seconds and self._watchdog is None:
            self._watchdog = asyncio.get_running_loop().create_task(self._ping(), name="watchdog of the manager")

    def tell_reloading(self) -> None:
        """Settings are being read; `tell_ready` ends that."""
        if self._is_stopping:
            return
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def tell_stopping(self, drain_seconds: int) -> None:
        """The service ends, after a drain of at most so many seconds: the manager waits that long with its SIGKILL."""
        self._is_stopping = True
        extension = (drain_seconds + _STOP_GRACE_SECONDS) * _MICROSECONDS
        status = f"draining for at most {drain_seconds} s" if drain_seconds else "stopping"
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={extension}", f"STATUS={status}")

    async def close(self) -> None:
        """Say nothing any more."""
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watchdog
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _ping(self) -> None:
        """From the event loop and nowhere else: a loop that does not turn is a service that does not work."""
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / _PINGS_PER_PERIOD)

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if self._is_heard:  # once: the watchdog speaks for ever
                _LOGGER.warning("the service manager cannot be told: %s", error.strerror)
            self._is_heard = False
        else:
            self._is_heard = True

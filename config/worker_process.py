"""One run of a worker, from its exec to its end, as the supervisor holds it."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from config.channel import Channel, ChannelError, Message
from config.native import PURE_VARIABLE

_LOGGER: Final = logging.getLogger(__name__)
_PACKAGES: Final = str(Path(__file__).resolve().parents[1])
_OWN_VARIABLES: Final = "REDCONNECT_"
MAX_LATE_REPLIES: Final = 1000  # in all; each is one for which a timeout did not wait
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


OnSaid = Callable[[Message], None]


class WorkerGone(Exception):
    """The worker has ended, or cannot be talked to any more."""


class Usage(NamedTuple):
    """What a process has used, and uses."""

    cpu_seconds: float
    resident_bytes: int


class WorkerProcess:
    """A running worker. `ended` is done as soon as the process is, and has been reaped."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, on_said: OnSaid | None) -> None:
        """Watch a process; use `spawn`."""
        loop = asyncio.get_running_loop()
        self.started_at = loop.time()
        self.ended: asyncio.Future[int] = loop.create_future()  # its exit status; negative: the signal that ended it
        self.last_usage = Usage(0.0, 0)
        self._process = process
        self._channel = channel
        self._on_said = on_said
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._descriptor = os.pidfd_open(process.pid)
        loop.add_reader(self._descriptor, self._on_end)
        self._reading = loop.create_task(self._read())

    @classmethod
    async def spawn(cls, kind: str, number: int, descriptors: list[int], on_said: OnSaid | None = None) -> Self:
        """Start a worker; settings follow over the channel.

        Args:
            kind: which, as `config.__main__` names it.
            number: among those of its kind.
            descriptors: that it inherits.
            on_said: hears what it says without having been asked; a `ChannelError` of this ends the worker.

        Raises:
            OSError: the system has no room for another process.
        """
        ours, theirs = socket.socketpair()
        # Not fork alone: the event loop is running, and a copy of it would share its epoll. Not the current directory:
        # there may be another `config` in it.
        environment = {
            name: value
            for name, value in os.environ.items()
            if name == PURE_VARIABLE or not name.startswith(_OWN_VARIABLES)
        }
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGES, os.environ.get("PYTHONPATH"))))
        channel = await Channel.open(ours)  # first: whoever cancels this must not leave a process behind
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603, ASYNC220  # it returns as soon as the program is loaded
                    [sys.executable, "-P", "-m", "config", kind, str(number), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *descriptors),
                    env=environment,
                )
            except OSError:
                channel.close()
                raise
        try:
            return cls(process, channel, on_said)
        except OSError:  # no descriptor for it: nobody would notice its end
            channel.close()
            process.kill()
            process.wait()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def ask(self, command: str, timeout: float, **fields: Any) -> Message:  # noqa: ANN401, ASYNC109
        """Give a command and wait for the reply.

        Raises:
            WorkerGone: there will be none.
            TimeoutError: it took longer than `timeout` seconds.
        """
        if self._reading.done():
            raise WorkerGone
        number = next(self._numbers)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[number] = reply
        try:
            self._channel.send({"id": number, "command": command, **fields})
            async with asyncio.timeout(timeout):
                return await reply
        except ChannelError as error:
            raise WorkerGone from error
        finally:
            del self._asked[number]

    def tell(self, command: str, **fields: Any) -> None:  # noqa: ANN401
        """Give a command that gets no reply. To one who has ended nothing is said.

        Raises:
            ChannelError: it has not read for long.
        """
        self._channel.send({"command": command, **fields})

    def tell_to_stop(self) -> None:
        """Let it end by itself; `ended` says when."""
        with contextlib.suppress(ChannelError):
            self._channel.send({"command": "stop"})

    def kill(self) -> None:
        """End it at once; harmless if it has ended."""
        if not self.ended.done():
            self._process.send_signal(signal.SIGKILL)

    def usage(self) -> Usage:
        """What it has used; the last known figures once it has ended."""
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
            self.last_usage = Usage(ticks / _TICKS_PER_SECOND, int(fields[21]) * _PAGE_BYTES)
        return self.last_usage

    def open_descriptors(self) -> int:
        """How many descriptors it has open; 0 once it has ended."""
        with contextlib.suppress(OSError):
            return sum(1 for _ in os.scandir(f"/proc/{self.pid}/fd"))
        return 0

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.usage()  # before it is reaped: afterwards the number may be somebody else's
        status = self._process.wait()
        self._reading.cancel()
        self._channel.close()
        self.ended.set_result(status)

    async def _read(self) -> None:
        """Hand replies to those who wait for them, until there is nothing more to come."""
        late = 0
        try:
            while (message := await self._channel.receive()) is not None:
                if self._on_said is not None and "reply" not in message:
                    self._on_said(message)
                    continue
                number = message.get("reply")
                reply = self._asked.get(number) if isinstance(number, int) else None
                if reply is not None and not reply.done():
                    reply.set_result(message)
                    continue
                late += 1
                if late > MAX_LATE_REPLIES:
                    raise ChannelError("replies that nobody waits for")  # noqa: TRY301  # handled like any other below
        except ChannelError as error:
            _LOGGER.error("a worker with PID %d is killed: %s", self.pid, error)  # noqa: TRY400  # it has no traceback
            self.kill()
        finally:
            for reply in self._asked.values():
                if not reply.done():
                    reply.set_exception(WorkerGone())

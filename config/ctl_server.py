"""The service's end of `redconnect ctl`: a Unix socket in `state_dir` that nobody but its owner, and root, can use."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from config.ctl import MAX_REQUEST_BYTES, SOCKET_NAME, Reply, socket_path

MAX_CLIENTS: Final = 8  # at a time; whoever comes beyond that is hung up on
GRACE_SECONDS: Final = 3.0  # at the end, for answers that are being made
IDLE_SECONDS: Final = 30.0  # between two requests of a client
LOCK_NAME: Final = "ctl.lock"

_MODE: Final = 0o600
_BACKLOG: Final = 16
_CREDENTIALS: Final = struct.Struct("3i")  # PID, user, group
_LOGGER: Final = logging.getLogger(__name__)

Request = Mapping[str, Any]
Command = Callable[[Request], Awaitable[Reply]]


class CtlTaken(Exception):
    """Another service has this socket."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


class BadRequest(Exception):
    """A request that cannot be carried out; the message says why."""


class CtlServer:
    """Listens. `start`, then `stop`."""

    def __init__(self, directory: Path, commands: Mapping[str, Command]) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            directory: where the socket is to be.
            commands: what can be asked for, by name. A command may raise BadRequest.
        """
        self._directory = directory
        self._commands = commands
        self._lock: int | None = None
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket that a service left behind is replaced.

        Raises:
            CtlTaken: its service still runs.
            OSError: the directory cannot be written.
        """
        self._lock = _take_lock(self._directory / LOCK_NAME)
        try:
            sock = _listen(self._directory)
            self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MAX_REQUEST_BYTES)
        except BaseException:
            self._release()
            raise

    async def stop(self) -> None:
        """Hang up on everybody and remove the socket, within `GRACE_SECONDS`; harmless if it never started.

        Whoever has asked for something still gets the answer: it may have been this end.
        """
        server, self._server = self._server, None
        self._is_stopping = True
        if server is not None:
            (self._directory / SOCKET_NAME).unlink(missing_ok=True)  # first: whoever comes now finds nobody
            server.close()
            if self._answering:
                await asyncio.wait(set(self._answering), timeout=GRACE_SECONDS)
            for client in self._clients:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for the type checker
        try:
            if len(self._clients) < MAX_CLIENTS and _may_ask(writer):
                self._clients.add(task)
                await self._answer_all(task, reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            return  # who has gone, or says nothing, or is to go, gets no answer
        finally:
            self._clients.discard(task)
            writer.close()

    async def _answer_all(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not self._is_stopping:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    line = await reader.readline()
            except ValueError:  # what `readline` makes of a line above its limit
                _send(writer, {"error": f"a request has at most {MAX_REQUEST_BYTES} bytes"})
                break
            if not line.endswith(b"\n"):
                return
            self._answering.add(task)
            try:
                _send(writer, await self._answer(line))
                async with asyncio.timeout(IDLE_SECONDS):
                    await writer.drain()
            finally:
                self._answering.discard(task)

    async def _answer(self, line: bytes) -> Reply:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object in one line"}
        name = request.get("command")
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            return {"error": f"unknown command; there are {', '.join(sorted(self._commands))}"}
        try:
            return await command(request)
        except BadRequest as error:
            return {"error": str(error)}
        except Exception as error:
            _LOGGER.exception("a command of redconnect ctl failed: a bug")
            return {"error": f"this did not work: {type(error).__name__}; the log says more"}


def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(json.dumps(reply).encode() + b"\n")


def _take_lock(path: Path) -> int:
    """Hold the lock for as long as the service runs: its end frees it, however it comes.

    Raises:
        CtlTaken: another service holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CtlTaken(f"another service runs with {path.parent}") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _listen(directory: Path) -> socket.socket:
    """Bind and listen. Who has the lock is alone, so what is there was left behind."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with socket_path(directory) as path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  # a path that is no name of a file
            sock.bind(path)
            os.chmod(path, _MODE)  # noqa: PTH101  # before `listen`: until then nobody can connect
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _may_ask(writer: asyncio.StreamWriter) -> bool:
    """Whether the kernel says that the other side runs as our user or as root."""
    sock = writer.get_extra_info("socket")
    _pid, user, _group = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if user in {0, os.geteuid()}:
        return True
    _LOGGER.warning("a process of another user wants to control the service, and may not")
    return False

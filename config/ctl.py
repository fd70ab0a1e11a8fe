"""What `redconnect ctl` says to the running service, over a Unix socket in `state_dir`: one JSON object a line."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SOCKET_NAME: Final = "ctl.sock"
MAX_REQUEST_BYTES: Final = 4096
MAX_REPLY_BYTES: Final = 1 << 20  # 64 workers and a hundred changes of settings have some 50 KiB
REPLY_SECONDS: Final = 60.0  # a reload asks every worker, twice if one refuses
MAX_DEADLINE_SECONDS: Final = 86_400
LOOK_EVERY_SECONDS: Final = 1.0  # at a service that drains
_HUNG_UP: Final = "the service has hung up without an answer: it ends, or you are neither its user nor root"

Reply = dict[str, Any]


class CtlError(Exception):
    """The service cannot be asked, or refuses; the message says why in one line."""


class Silent(CtlError):
    """Somebody is at the socket, and does not answer."""


class NoService(CtlError):
    """Nobody is at the socket."""


@contextmanager
def socket_path(directory: Path, name: str = SOCKET_NAME) -> Iterator[str]:
    """A path of the socket that is short enough for the kernel, which takes 107 bytes, wherever the directory is.

    Raises:
        OSError: there is no such directory, or it may not be read.
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def ask(state_dir: Path, command: str, *, patience: float = REPLY_SECONDS, **fields: object) -> Reply:
    """Ask the service whose state is in this directory.

    Args:
        state_dir: of the service.
        command: what is asked for.
        patience: for the answer, in seconds.
        fields: of the request.

    Raises:
        NoService: none runs.
        Silent: it does not answer in time.
        CtlError: it does not let us, or says that it cannot.
    """
    shown = state_dir / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        try:
            with socket_path(state_dir) as path:
                sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NoService(f"no service runs with this state_dir: nobody is at {shown}") from None
        except OSError as error:
            raise CtlError(f"cannot ask at {shown}: {error.strerror}") from error
        try:
            sock.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
            line = _read_line(sock)
        except TimeoutError:
            raise Silent(f"the service does not answer within {patience:g} s") from None
        except OSError:
            raise NoService(_HUNG_UP) from None
    return _read_reply(line)


def drain(state_dir: Path, deadline_seconds: int | None, tell: Callable[[str], None]) -> None:
    """Let the service end as SIGTERM does, and tell whoever waits how far it is, until it has ended.

    Args:
        state_dir: of the service.
        deadline_seconds: when it ends at the latest; None: as its settings say.
        tell: gets a line when something has changed.

    Raises:
        CtlError: it cannot be asked.
    """
    fields = {} if deadline_seconds is None else {"deadline_seconds": deadline_seconds}
    reply = ask(state_dir, "drain", **fields)
    pid = int(reply["status"]["pid"])
    last = ""
    while True:
        line = _progress(reply["status"])
        if line != last:
            tell(line)
        last = line
        time.sleep(LOOK_EVERY_SECONDS)
        try:
            reply = ask(state_dir, "status")
        except NoService:  # the socket goes first, the ports later
            while _is_running(pid):
                time.sleep(LOOK_EVERY_SECONDS)
            tell("the service has ended")
            return


def _is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended; its parent may not have taken note of its end yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _progress(status: Reply) -> str:
    left = f"{status['allocations']} allocations, {status['conferences']} conferences"
    return f"draining: {left}; ends at {status['drain']['ends_at_latest']} at the latest"


def _read_line(sock: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = sock.recv(65_536)
        data += part
        if not part or len(data) > MAX_REPLY_BYTES:
            break
    return bytes(data)


def _read_reply(line: bytes) -> Reply:
    if not line:
        raise NoService(_HUNG_UP)
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or not line.endswith(b"\n"):
        raise CtlError("the answer of the service cannot be read")
    if "error" in reply:
        raise CtlError(str(reply["error"]))
    return reply

"""Ports for what tests start: nobody else on this machine is given the same one.

A port that is only looked at may be taken before it is used: by another test process, or by the service that the same
test has just started. So each is given away once, and stays given away until the process ends.
"""

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

# Below what the kernel gives to outgoing connections and the relay to allocations.
PORTS: Final = range(10_240, 32_768)
_given: Final[set[int]] = set()


def free_port() -> int:
    """A port that is free for TCP and UDP, and that no other test process on this machine is given."""
    return free_ports(1)[0]


def free_ports(count: int) -> range:
    """As many such ports in a row."""
    while True:
        first = random.randrange(PORTS.start, PORTS.stop - count)  # noqa: S311  # nobody has to guess it
        ports = range(first, first + count)
        if all(_take(port) for port in ports):
            return ports


def _take(port: int) -> bool:
    """Whether the port is now ours: not given before, not claimed by another process, not in use."""
    if port in _given:
        return False
    try:
        # One byte of the file for each port. The kernel lets go of it when the process ends, however it ends.
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return _is_unused(port)


@functools.cache
def _claims() -> int:
    path = Path(tempfile.gettempdir()) / f"redconnect-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_unused(port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
    ):
        try:
            stream.bind(("", port))
            datagram.bind(("", port))
        except OSError:
            return False
    return True

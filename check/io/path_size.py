"""The largest packet that reaches a STUN server whole: Binding requests of growing size, with don't-fragment set."""

import asyncio
import contextlib
import errno
import os
import socket
from typing import Final

from check.conversation import TRANSACTION_ID_BYTES, Answer, Conversation
from check.io.dial import connected_datagram_socket
from check.plan import Family
from check.size_search import IP_AND_UDP_BYTES, MAX_PACKET_BYTES, MIN_PACKET_BYTES, SizeSearch
from stun.errors import MessageParseError

TRIES: Final = 2  # of one size: a lost packet is not a small path
ANSWER_SECONDS: Final = 0.4
MAX_ANSWER_BYTES: Final = 2048
# linux/in.h and linux/in6.h; Python 3.11 does not name them. PROBE sets don't-fragment and believes no earlier ICMP.
_DONT_FRAGMENT: Final = {Family.IPV4: (socket.IPPROTO_IP, 10), Family.IPV6: (socket.IPPROTO_IPV6, 23)}
_PROBE: Final = 3


async def find_largest_packet(address: str, port: int, family: Family) -> int | None:
    """The size of the largest IP packet that was answered, up to 1500 bytes; None if none was.

    The answers are small: it is the way to the server that is measured.
    """
    try:
        sock = connected_datagram_socket(address, port)
    except OSError:
        return None
    with contextlib.closing(sock):
        try:
            sock.setsockopt(*_DONT_FRAGMENT[family], _PROBE)
        except OSError:  # a system that has no such option
            return None
        overhead = IP_AND_UDP_BYTES[family]
        search = SizeSearch(MIN_PACKET_BYTES[family], MAX_PACKET_BYTES)
        while (size := search.size) is not None:
            search.tell(passed=await _passes(sock, size - overhead))
        return search.largest


async def _passes(sock: socket.socket, size: int) -> bool:
    loop = asyncio.get_running_loop()
    conversation = Conversation()
    transaction_id = os.urandom(TRANSACTION_ID_BYTES)
    for _ in range(TRIES):
        try:
            await loop.sock_sendall(sock, conversation.binding(transaction_id, size))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:  # the link here is smaller already
                return False
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                if await _is_answered(sock, conversation, transaction_id):
                    return True
    return False


async def _is_answered(sock: socket.socket, conversation: Conversation, transaction_id: bytes) -> bool:
    """Wait for the answer; False when an ICMP error comes instead."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            answer = conversation.read(await loop.sock_recv(sock, MAX_ANSWER_BYTES))
        except MessageParseError:
            continue
        except OSError:
            return False
        if isinstance(answer, Answer) and answer.transaction_id == transaction_id:
            return True

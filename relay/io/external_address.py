"""Which address the rest of the world sees us from: asked of a STUN server (RFC 8489 §2), and judged."""

import asyncio
import ipaddress
import os
from typing import ClassVar, Final

from stun.address import TransportAddress
from stun.attributes import XOR_MAPPED_ADDRESS
from stun.errors import MessageParseError
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method

RETRANSMIT_SECONDS: Final = 0.5  # the first; each further one waits twice as long (RFC 8489 §6.2.1)
ATTEMPTS: Final = 4
_TRANSACTION_ID_BYTES: Final = 12


class ExternalAddressError(OSError):
    """The advertised address cannot be right, or nobody told it; the message says in one line what to do."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


async def ask_external_address(own: bytes, server: TransportAddress) -> bytes:
    """The packed IP address that a STUN server sees the packed address `own` as.

    Raises:
        ExternalAddressError: the server cannot be reached, does not answer or answers something else.
    """
    loop = asyncio.get_running_loop()
    request = encode_message(Method.BINDING, MessageClass.REQUEST, os.urandom(_TRANSACTION_ID_BYTES))
    answer: asyncio.Future[bytes] = loop.create_future()
    local = (str(ipaddress.ip_address(own)), 0)
    remote = (str(ipaddress.ip_address(server.ip)), server.port)
    try:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _BindingClient(request[8:20], answer), local_addr=local, remote_addr=remote
        )
    except OSError as error:
        raise ExternalAddressError(f"cannot ask {server} for the external address: {error.strerror}") from error
    try:
        for attempt in range(ATTEMPTS):
            transport.sendto(request)
            done, _ = await asyncio.wait([answer], timeout=RETRANSMIT_SECONDS * 2**attempt)
            if done:
                return answer.result()
    finally:
        transport.close()
        answer.cancel()
    raise ExternalAddressError(
        f"{server} did not say which address it sees us from; check relay.external_address_from, or set"
        " relay.external_addresses instead"
    )


def check_advertised(bound: bytes, advertised: bytes) -> None:
    """Refuse an advertised address that no peer could ever send to.

    Raises:
        ExternalAddressError: it is unspecified, multicast, reserved or link-local; or loopback, but `bound` is not.
    """
    inner, outer = ipaddress.ip_address(bound), ipaddress.ip_address(advertised)
    wrong = outer.is_unspecified or outer.is_multicast or outer.is_link_local
    wrong |= outer.version == 4 and outer.is_reserved  # of IPv6 that would include ::1
    if wrong or (outer.is_loopback and not inner.is_loopback):
        raise ExternalAddressError(
            f"peers cannot reach the advertised address {outer}; set relay.external_addresses to the address that"
            f" they see {inner} as"
        )


class _BindingClient(asyncio.DatagramProtocol):
    """Waits for the one response that fits."""

    def __init__(self, transaction_id: bytes, answer: "asyncio.Future[bytes]") -> None:
        self._transaction_id = transaction_id
        self._answer = answer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002  # the socket is connected
        """Take the mapped address out of a response to our request; drop everything else."""
        try:
            message = decode_message(data)
            mapped = message.get(XOR_MAPPED_ADDRESS)
        except MessageParseError:
            return
        fits = message.transaction_id == self._transaction_id and message.message_class is MessageClass.SUCCESS
        if fits and mapped is not None and not self._answer.done():
            self._answer.set_result(mapped.ip)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error, perhaps forged: retransmissions go on."""

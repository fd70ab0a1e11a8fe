"""Asking the service for credentials and for what it documents, over one address of its pages."""

import asyncio
import socket
import time
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from check.findings import Outcome, Step
from check.io.dial import outcome_of, since
from check.plan import HTTP_SECONDS
from check.service_answer import MAX_ANSWER_BYTES, PATH, ServiceAnswer, ServiceAnswerError, read_answer
from check.target import Target
from check.text import plain

_READ_BYTES: Final = 4096


async def ask_service(target: Target, address: str) -> tuple[Step, ServiceAnswer | None]:
    """Post an empty body to the connection test of the service at one of its addresses.

    The certificate is not verified: it is judged elsewhere, and nothing here is secret.
    """
    began = time.monotonic()
    connector = aiohttp.TCPConnector(resolver=_Pinned(address), ssl=False, force_close=True)
    try:
        async with (
            asyncio.timeout(HTTP_SECONDS),
            aiohttp.ClientSession(connector=connector) as session,
            session.post(target.origin + PATH, data=b"", allow_redirects=False) as response,
        ):
            body = await _read(response)
            status, retry_after = response.status, response.headers.get("Retry-After", "")
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        outcome = outcome_of(cause) if isinstance(cause, OSError) else Outcome.WRONG_ANSWER
        return Step(outcome, detail=type(error).__name__), None
    except ServiceAnswerError as error:
        return Step(Outcome.WRONG_ANSWER, since(began), detail=str(error)), None
    if status == HTTPStatus.OK:
        try:
            return Step(Outcome.OK, since(began), status), read_answer(body)
        except ServiceAnswerError as error:
            return Step(Outcome.WRONG_ANSWER, since(began), status, str(error)), None
    if status < HTTPStatus.BAD_REQUEST:  # a portal that wants a login first answers so
        return Step(Outcome.WRONG_ANSWER, since(began), status, "redirected"), None
    detail = f"again in {plain(retry_after, 8)} s" if retry_after else ""
    return Step(Outcome.REJECTED, since(began), status, detail), None


class _Pinned(AbstractResolver):
    """Knows one address for every name: the one that is being tried."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The address, whatever is asked for."""
        del family
        found = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=found, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_READ_BYTES):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise ServiceAnswerError(f"more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)

"""aiohttp's server with bounds on connections, silent about addresses, and guarded in its own error pages too."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from signaling.connection_limits import ConnectionLimits, TooManyConnections
from signaling.io.app import error_text, security_headers
from signaling.io.listening import CountedProtocol
from signaling.rate_limiter import peer_key

REQUEST_TIMEOUT_SECONDS = 15.0  # for the header of a request, and for an idle connection
LINGERING_SECONDS = 1.0  # bodies have at most a KiB, so nobody needs long to send the rest of one
MAX_HEADER_LINE_BYTES = 4096
MAX_HEADERS = 64
SPARE_CONNECTIONS = 1024  # beyond the WebSockets: for pages and their files

_logger = logging.getLogger(__name__)


class _Protocol(RequestHandler, CountedProtocol):
    """Answers what never reaches the application: bytes that are no HTTP."""

    __slots__ = ("_server", "counted_for")

    def __init__(self, manager: "_Server", **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(manager, **kwargs)
        self._server = manager
        self.counted_for: bytes | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection out, too."""
        super().connection_lost(exc)
        self.release()

    def release(self) -> None:
        """Count the connection out, if that has not happened yet."""
        self._server.release(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer without repeating the bytes, which aiohttp's own answer would."""
        del message
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _logger.error("a request failed outside the application", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer has been sent: only the end of the connection is left")
        headers = {**security_headers(request), "Cache-Control": "no-store"}
        response = web.Response(status=status, text=error_text(status), headers=headers)
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(self, inner: web.Server, limits: ConnectionLimits, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(inner.request_handler, request_factory=inner.request_factory, **kwargs)
        self._limits = limits

    def __call__(self) -> "_Protocol":
        """Make the protocol of a connection that has not been counted."""
        return _Protocol(self, loop=self._loop, **self._kwargs)

    def make_counted(self, address: bytes) -> "_Protocol":
        """Make the protocol of a connection that has been counted for this address."""
        protocol = self()
        protocol.counted_for = address
        return protocol

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if isinstance(handler, _Protocol) and handler.counted_for is None:
            address = peer_key((transport.get_extra_info("peername") or ("",))[0])
            try:
                self._limits.enter(address)
            except TooManyConnections:
                # Not at once: aiohttp's task for this connection must have begun, or it fails on its end.
                self._loop.call_soon(transport.abort)
            else:
                handler.counted_for = address

    def release(self, handler: "_Protocol") -> None:
        """Count a connection out, if it counts."""
        address, handler.counted_for = handler.counted_for, None
        if address is not None:
            self._limits.leave(address)


class GuardedRunner(web.AppRunner):
    """Runs the application without an access log and with bounds on what a stranger may hold."""

    __slots__ = ("_guarded", "_limits")

    def __init__(self, app: web.Application, *, limits: ConnectionLimits, shutdown_timeout: float) -> None:
        """Prepare the runner.

        Args:
            app: the application.
            limits: count the connections that somebody else accepts for it.
            shutdown_timeout: seconds that a request may go on after `cleanup` has begun.
        """
        super().__init__(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=shutdown_timeout,
            keepalive_timeout=REQUEST_TIMEOUT_SECONDS,
            lingering_time=LINGERING_SECONDS,
            max_line_size=MAX_HEADER_LINE_BYTES,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._limits = limits
        self._guarded: _Server | None = None

    def make_counted(self, address: bytes) -> "_Protocol":
        """Make the protocol of a connection that has been counted for this address; after `setup`."""
        if self._guarded is None:
            raise RuntimeError("the runner has not been set up")
        return self._guarded.make_counted(address)

    async def _make_server(self) -> web.Server:
        self._guarded = _Server(await super()._make_server(), self._limits, **self._kwargs)
        return self._guarded

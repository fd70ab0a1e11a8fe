"""The web application: the page, its files, the WebSocket, and the headers that guard them."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from signaling.api_messages import MAX_BODY_BYTES
from signaling.info_pages import PAGES
from signaling.io.assets import Asset, load_assets
from signaling.openapi import PREFIX
from signaling.reverse_proxies import ReverseProxies

WEB_ROOT = Path(__file__).parent.parent / "web"
MAX_REQUEST_BYTES = MAX_BODY_BYTES  # only the API reads a body
SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": (
            "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), "
            "speaker-selection=(self), screen-wake-lock=(self)"
        ),
        "Server": "redconnect",
    }
)
HSTS_SECONDS = 365 * 24 * 3600
_STRICT_TRANSPORT_SECURITY = f"max-age={HSTS_SECONDS}"

_ERROR_TEXTS = {
    HTTPStatus.BAD_REQUEST: "Diese Anfrage ist nicht lesbar.",
    HTTPStatus.FORBIDDEN: "Diese Anfrage ist nicht erlaubt.",
    HTTPStatus.NOT_FOUND: "Diese Seite gibt es nicht.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Diese Anfrage ist nicht erlaubt.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Der Dienst ist gerade ausgelastet.",
}
_OTHER_ERROR_TEXT = "Das hat nicht geklappt. Bitte versuchen Sie es erneut."
_logger = logging.getLogger(__name__)


def build_app(
    websocket: Callable[[web.Request], Awaitable[web.StreamResponse]],
    web_root: Path = WEB_ROOT,
    *,
    pages: Callable[[web.Request], Awaitable[web.StreamResponse]],
    api: web.Application | None = None,
    proxies: ReverseProxies | None = None,
) -> web.Application:
    """Build the application.

    Args:
        websocket: serves `/ws`.
        web_root: the folder of the page; its files are read now.
        pages: serves the pages that can be read without joining.
        api: serves `/api/v1`; None where there is none.
        proxies: say where their clients are; None: nobody does.

    Raises:
        FileNotFoundError: there is no page in `web_root`.
    """
    assets = load_assets(web_root)

    async def serve_asset(request: web.Request) -> web.Response:
        asset = assets.get(request.path)
        if asset is None:
            raise web.HTTPNotFound
        return _respond(request, asset)

    app = web.Application(
        middlewares=[_answer_errors, _find_client(proxies or ReverseProxies())], client_max_size=MAX_REQUEST_BYTES
    )
    app.on_response_prepare.append(_add_headers)
    if api is not None:
        app.add_subapp(PREFIX, api)
    app.router.add_get("/ws", websocket, allow_head=False)
    for path in PAGES:
        app.router.add_get(path, pages)
    app.router.add_get("/{path:.*}", serve_asset)
    return app


def error_text(status: int) -> str:
    """Say what went wrong, in German and without any detail of the request."""
    return _ERROR_TEXTS.get(HTTPStatus(status), _OTHER_ERROR_TEXT)


def security_headers(request: web.BaseRequest) -> dict[str, str]:
    """The headers that guard every answer.

    Whoever came by https, here or on the port that is shared with the relay, is to come so from now on (RFC 6797).
    Over http that is not said: browsers would not heed it, and where a proxy ends TLS, it is the proxy's to say.
    """
    headers = dict(SECURITY_HEADERS)
    if request.secure:
        headers["Strict-Transport-Security"] = _STRICT_TRANSPORT_SECURITY
    return headers


def _respond(request: web.Request, asset: Asset) -> web.Response:
    # Files are revalidated, so that after an update no page runs with the modules of the one before.
    is_page = asset.content_type == "text/html"
    headers = {"Cache-Control": "no-store" if is_page else "no-cache"}
    if not is_page:
        headers["ETag"] = f'"{asset.etag}"'
        if any(tag.value == asset.etag for tag in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=asset.body, content_type=asset.content_type, charset=asset.charset, headers=headers)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        status, allow = error.status, error.headers.get("Allow")
    except Exception:
        # Here and not in aiohttp, whose log line names the address of the client.
        _logger.exception("a request failed")
        status, allow = int(HTTPStatus.INTERNAL_SERVER_ERROR), None
    headers = {"Cache-Control": "no-store"} | ({"Allow": allow} if allow else {})
    return web.Response(status=status, text=error_text(status), headers=headers)


def _find_client(proxies: ReverseProxies) -> Middleware:
    """Let `remote` of a request be the address of the client, not that of a proxy."""

    @web.middleware
    async def find_client(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = request.remote
        if peer is not None and peer in proxies:
            header = ",".join(request.headers.getall("X-Forwarded-For", ()))
            request = request.clone(remote=proxies.find_client(peer, header))
        return await handler(request)

    return find_client


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(security_headers(request))

"""Serves the pages that can be read without joining: each is filled in out of the settings that hold now."""

import logging
from pathlib import Path

from aiohttp import web

from signaling.ice_servers import InvalidHost, RelayPorts
from signaling.info_pages import PAGES, PageWriter, describe_network
from signaling.io.assets import load_templates
from signaling.settings import SignalingSettings

_logger = logging.getLogger(__name__)


class InfoPages:
    """The aiohttp handler of every path in `PAGES`."""

    def __init__(self, settings: SignalingSettings, relay_ports: RelayPorts, web_root: Path) -> None:
        """Read the templates.

        Raises:
            FileNotFoundError: one is missing under `web_root`.
            ValueError: one is too large, or is not UTF-8.
        """
        self._settings = settings
        self._relay_ports = relay_ports
        self._writer = PageWriter(load_templates(web_root, PageWriter.TEMPLATES))
        missing = [key for key, value in settings.operator if not value]
        if missing:
            _logger.warning("the imprint is incomplete: set signaling.operator, %s", ", ".join(missing))

    def configure(self, settings: SignalingSettings, relay_ports: RelayPorts) -> None:
        """Take other settings and relay ports into use from the next request on."""
        self._settings = settings
        self._relay_ports = relay_ports

    async def handle(self, request: web.Request) -> web.Response:
        """Answer with the page of the request's path.

        Raises:
            HTTPBadRequest: the Host header is malformed.
        """
        hosts = request.headers.getall("Host", [])
        try:
            network = describe_network(self._settings, self._relay_ports, hosts[0] if len(hosts) == 1 else "")
        except InvalidHost as error:
            raise web.HTTPBadRequest from error
        text = self._writer.write(PAGES[request.path], self._settings, network)
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

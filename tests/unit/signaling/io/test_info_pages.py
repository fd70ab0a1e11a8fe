import logging
from pathlib import Path

import pytest

from signaling.ice_servers import PortRange, RelayPorts
from signaling.info_pages import PAGES
from signaling.io.store import AppointmentStore
from tests.unit.signaling.io.bench import Bench, FixedIssuer


async def page(bench: Bench, path: str) -> str:
    async with bench.session.get(bench.url + path) as response:
        assert response.status == 200
        return await response.text()


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_html_that_is_never_stored(bench: Bench, path: str) -> None:
    async with bench.session.get(bench.url + path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert f"<h1>{PAGES[path].title}</h1>" in await response.text()


async def test_the_firewall_page_names_the_host_that_the_visitor_reached(bench: Bench) -> None:
    async with bench.session.get(f"{bench.url}/hilfe/firewall", headers={"Host": "video.example.org:8443"}) as response:
        text = await response.text()
    assert "<li><code>video.example.org</code></li>" in text
    assert "<code>TCP: 8443</code>" in text


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "a b", "a:99999", ""])
async def test_a_host_header_that_names_no_host_is_refused(bench: Bench, host: str) -> None:
    async with bench.session.get(f"{bench.url}/hilfe/firewall", headers={"Host": host}) as response:
        assert response.status == 400
        assert await response.text() == "Diese Anfrage ist nicht lesbar."


async def test_a_reload_changes_the_pages(bench: Bench) -> None:
    assert "<code>UDP: 3478</code>" in await page(bench, "/hilfe/firewall")
    settings = bench.settings.model_copy(
        update={"operator": bench.settings.operator.model_copy(update={"name": "Praxis Morgenrot"})}
    )
    bench.service.configure(settings, FixedIssuer(), RelayPorts((4000,), relayed=PortRange(50000, 50999)))
    firewall = await page(bench, "/hilfe/firewall")
    assert "<code>UDP: 4000</code>" in firewall
    assert "UDP-Portbereich 50000 - 50999 nach 127.0.0.1 freigeben." in firewall
    assert "Praxis Morgenrot" in await page(bench, "/impressum")


async def test_an_incomplete_imprint_is_warned_of_at_the_start(
    store: AppointmentStore, web_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    operator = {"name": "Praxis Morgenrot", "address": "Weg 1", "email": "post@example.org"}
    async with Bench(store, web_root, operator=operator):
        assert "the imprint is incomplete: set signaling.operator, phone" in caplog.text
    caplog.clear()
    async with Bench(store, web_root, operator={**operator, "phone": "030 123456"}):
        assert "imprint" not in caplog.text

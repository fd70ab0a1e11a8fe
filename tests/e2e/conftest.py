"""Fixtures of the end-to-end tests: a browser, a running service, a network of namespaces."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.support.browser import Participant, chromium
from tests.support.ports import free_port
from tests.support.service import Service, run_service


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with chromium(playwright) as started:
        yield started


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service on this machine, on free ports."""
    port = free_port()
    settings = {
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
    }
    with run_service(tmp_path_factory.mktemp("service"), settings) as started:
        yield started


@pytest.fixture
def invite(browser: Browser) -> Iterator[Callable[..., Participant]]:
    """Makes participants, and closes their tabs at the end: a forgotten camera costs the next test its CPU.

    No page may have complained by then: a test that provokes complaints clears them.
    """
    invited: list[Participant] = []

    def make(**options: object) -> Participant:
        invited.append(Participant(browser, **options))  # type: ignore[arg-type]  # passed on as they are
        return invited[-1]

    yield make
    for participant in invited:
        participant.close()
    assert [complaint for participant in invited for complaint in participant.complaints] == []


@pytest.fixture
def doctor(invite: Callable[..., Participant]) -> Participant:
    return invite()


@pytest.fixture
def patient(invite: Callable[..., Participant]) -> Participant:
    return invite()

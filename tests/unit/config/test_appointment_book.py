import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from config import appointment_book
from config.appointment_book import AppointmentBook, BookError, LocalBook, RemoteBook, check_server, read_token
from config.schema import Settings
from signaling.appointments import Role, Tier
from signaling.io.app import WEB_ROOT
from signaling.io.store import AppointmentStore
from signaling.organisations import hash_token
from signaling.settings import SignalingSettings
from tests.unit.signaling.io.bench import KEY, Bench

TOKEN = "t" * 43
ORGANISATIONS = {"practice": {"tokens_sha256": [hash_token(TOKEN)], "tier": "plus"}}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AppointmentStore]:
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", KEY)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bench(store: AppointmentStore) -> AsyncIterator[Bench]:
    async with Bench(store, WEB_ROOT, organisations=ORGANISATIONS) as bench:
        bench.clock.utc = datetime.now(UTC)
        yield bench


@pytest.fixture(params=["local", "remote"])
def book(request: pytest.FixtureRequest, store: AppointmentStore, bench: Bench) -> AppointmentBook:
    if request.param == "local":
        return LocalBook(store, Settings())
    return RemoteBook(bench.url, TOKEN)


def soon(hours: int = 1) -> datetime:
    return (datetime.now(UTC) + timedelta(hours=hours)).replace(microsecond=0)


async def test_both_books_make_list_move_and_cancel(book: AppointmentBook, store: AppointmentStore) -> None:
    start = soon()
    made = await book.create(start, Tier.PLUS)
    assert (made.start, made.tier, made.end - made.start) == (start, Tier.PLUS, timedelta(hours=24))
    assert made.start - made.entry_opens == timedelta(minutes=30)
    seat = await store.find(made.locators.participant)
    assert seat is not None
    assert seat.role is Role.PARTICIPANT
    early = await book.create(soon(-1), Tier.BASIS)
    assert [view.id for view in await book.list_planned()] == [early.id, made.id]
    before = soon(-2)
    assert (await book.move(made.id, before)).start == before
    assert [view.id for view in await book.list_planned()] == [made.id, early.id]
    await book.cancel(made.id)
    assert [view.id for view in await book.list_planned()] == [early.id]
    assert await store.find(made.locators.participant) is None


async def test_neither_book_makes_a_conference_that_nobody_could_hold(book: AppointmentBook) -> None:
    with pytest.raises(BookError, match="needs the tier plus"):
        await book.create(soon(), Tier.BASIS, 2)
    with pytest.raises(BookError, match=r"at most 8 people may meet|no conferences here, there is no sfu"):
        await book.create(soon(), Tier.PLUS, 8)
    assert await book.list_planned() == []


@pytest.mark.parametrize(
    ("signaling", "reason"),
    [
        (SignalingSettings(redis_url=SecretStr("redis://localhost")), "signaling.redis_url"),
        (SignalingSettings(max_participants=2), "max_participants is 2"),
    ],
)
async def test_where_the_settings_allow_no_conferences_the_book_says_why(
    store: AppointmentStore, signaling: SignalingSettings, reason: str
) -> None:
    book = LocalBook(store, Settings().model_copy(update={"signaling": signaling}))
    with pytest.raises(BookError, match=f"no conferences here: .*{reason}"):
        await book.create(soon(), Tier.PLUS, 2)
    assert (await book.create(soon(), Tier.PLUS)).tier is Tier.PLUS


@pytest.mark.parametrize("appointment_id", ["0" * 32, "x"])
async def test_an_id_of_nothing_is_told(book: AppointmentBook, appointment_id: str) -> None:
    with pytest.raises(BookError, match="no such appointment"):
        await book.cancel(appointment_id)
    with pytest.raises(BookError, match="no such appointment"):
        await book.move(appointment_id, soon())


async def test_a_long_list_is_read_to_its_end(book: AppointmentBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appointment_book, "MAX_PAGE", 2)
    monkeypatch.setattr("signaling.io.store.MAX_LISTED", 2)
    made = {(await book.create(soon(hours), Tier.BASIS)).id for hours in range(5)}
    listed = [view.id for view in await book.list_planned()]
    assert len(listed) == 5
    assert set(listed) == made


async def test_the_two_books_do_not_see_each_other(store: AppointmentStore, bench: Bench) -> None:
    local, remote = LocalBook(store, Settings()), RemoteBook(bench.url, TOKEN)
    mine = await local.create(soon(), Tier.BASIS)
    assert await remote.list_planned() == []
    with pytest.raises(BookError, match="no such appointment"):
        await remote.cancel(mine.id)


async def test_a_wrong_token_is_told(bench: Bench) -> None:
    with pytest.raises(BookError, match="refused: send Authorization: Bearer and a valid token"):
        await RemoteBook(bench.url, "x" * 43).list_planned()


async def test_nobody_there_is_told(unused_tcp_port: int) -> None:
    with pytest.raises(BookError, match="does not answer"):
        await RemoteBook(f"http://127.0.0.1:{unused_tcp_port}", TOKEN).list_planned()


async def strange_answer(handler: Callable[[web.Request], Awaitable[web.Response]]) -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    return server


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (200, "{}", "not what this version understands"),
        (200, "<html>", "not what this version understands"),
        (500, "<html>", "HTTP 500"),
        (404, '{"code": "gone", "message": "x"}', "HTTP 404"),
        (401, '{"code": "unauthorized", "message": "\\u001b[31mx\\n"}', r"refused: \\x1b\[31mx\\n"),
        (200, "x" * 2_000_000, "more than 1048576 bytes"),
    ],
)
async def test_a_server_that_is_none_of_ours_is_told_in_one_line(status: int, text: str, message: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    server = await strange_answer(answer)
    with pytest.raises(BookError, match=message) as caught:
        await RemoteBook(str(server.make_url("")), TOKEN).list_planned()
    assert "\n" not in str(caught.value)
    await server.close()


async def test_a_redirect_does_not_carry_the_token_away() -> None:
    seen: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        seen.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    server = await strange_answer(redirect)
    with pytest.raises(BookError, match="HTTP 307"):
        await RemoteBook(str(server.make_url("")), TOKEN).list_planned()
    assert seen == ["/api/v1/appointments"]
    await server.close()


async def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appointment_book, "REQUEST_TIMEOUT_SECONDS", 0.05)
    release = asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    server = await strange_answer(wait)
    with pytest.raises(BookError, match="does not answer: TimeoutError"):
        await RemoteBook(str(server.make_url("")), TOKEN).list_planned()
    release.set()
    await server.close()


@pytest.mark.parametrize(
    ("server", "kept"),
    [
        ("https://video.example.org/", "https://video.example.org"),
        ("https://video.example.org:8443", "https://video.example.org:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_address_of_a_page_is_kept(server: str, kept: str) -> None:
    assert check_server(server) == kept


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("http://video.example.org", "unencrypted"),
        ("http://localhost.example.org", "unencrypted"),
        ("http://203.0.113.7", "unencrypted"),
        ("video.example.org", "address of the page"),
        ("ftp://video.example.org", "address of the page"),
        ("https://user@video.example.org", "address of the page"),
        ("https://video.example.org/api", "address of the page"),
        ("https://video.example.org/#x", "address of the page"),
        ("https://[::1", "address of the page"),
        ("https://x:99999", "address of the page"),
        ("", "address of the page"),
    ],
)
def test_a_token_is_sent_nowhere_else(server: str, message: str) -> None:
    with pytest.raises(BookError, match=message):
        check_server(server)


def test_a_token_is_read_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.chmod(0o640)
    with pytest.raises(BookError, match="by others"):
        read_token(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"\xff", b"a\nb"])
def test_a_file_without_a_token_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BookError, match="holds no token"):
        read_token(path)


def test_a_missing_token_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="No such file"):
        read_token(tmp_path / "none")

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientError, WSMessage, WSMsgType, WSServerHandshakeError, web

from signaling import lobby
from signaling.appointments import Seat, Tier
from signaling.io import outbound, websocket
from signaling.io.store import AppointmentStore, StoreError
from tests.unit.signaling.io.bench import KEY, START, WAIT_SECONDS, Bench, Browser


async def test_a_consultation_begins(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    locators = await bench.plan(Tier.PLUS)
    organiser, participant, first, second = await bench.pair(locators)
    assert first["role"] == "organiser"
    assert first["room"] == second["room"]
    assert first["features"] == ["screen"]
    assert first["start"] == "2026-11-22T09:00:00Z"
    assert first["end"] == "2026-11-23T09:00:00Z"
    assert first["ice"] == [
        {"urls": ["stun:127.0.0.1:3478"]},
        {
            "urls": [
                "turn:127.0.0.1:3478?transport=udp",
                "turn:127.0.0.1:3478?transport=tcp",
                "turns:127.0.0.1:5349?transport=tcp",
            ],
            "username": f"{int(START.timestamp()) + 600}:fixed",
            "credential": "password",
        },
    ]
    assert bench.metric("pairings_total", result="confirmed") == 1
    assert bench.metric("rooms", tier="plus") == 1
    for browser in (organiser, participant):
        await browser.send(type="leave")
    assert (await participant.receive())["present"] is False
    assert await participant.closed() == 1000
    assert bench.metric("rooms", tier="plus") == 0
    assert caplog.messages == ["room opened, plus", "room closed after 0 s, plus, paired"]


async def test_a_fresh_credential_comes_before_the_last_one_ends(bench: Bench) -> None:
    locators = await bench.plan()
    browser = await bench.browser()
    joined = await browser.join(locators[0])
    bench.pass_time(bench.settings.ice.credential_lifetime_seconds * 3 / 4)
    renewed = await browser.receive()
    assert renewed["type"] == "ice"
    assert [server["urls"] for server in renewed["ice"]] == [server["urls"] for server in joined["ice"]]
    assert renewed["ice"][1]["username"] == f"{int(bench.clock.utc.timestamp()) + 600}:fixed"


async def test_whoever_joins_again_is_issued_a_credential_for_the_same_subject(bench: Bench) -> None:
    organiser, participant = await bench.plan()
    for locator in (organiser, organiser, participant):
        await (await bench.browser()).join(locator)
    first, second, other = bench.issuer.subjects
    assert first == second != other


async def test_whoever_waits_is_told_when_the_other_comes_and_goes(bench: Bench) -> None:
    locators = await bench.plan()
    waiting, partner = await bench.browser(), await bench.browser()
    await waiting.join(locators[1])
    joined = await partner.join(locators[0])
    peer = {"type": "peer", "pid": joined["pid"], "role": "organiser", "present": True}
    assert await waiting.receive() == peer
    await partner.socket.close()
    assert await waiting.receive() == peer | {"present": False}


async def test_each_refusal_is_told_and_closed_with_1008(bench: Bench) -> None:
    locators = await bench.plan()
    pair = await bench.pair(locators)
    early, _ = await bench.plan(start=START + timedelta(hours=1))
    ended, _ = await bench.plan(start=START - timedelta(hours=24))
    expected = {
        locators[0]: {"type": "error", "code": "code_in_use"},
        "000000": {"type": "error", "code": "unknown_code"},
        early: {"type": "error", "code": "too_early", "start": "2026-11-22T10:00:00Z"},
        ended: {"type": "error", "code": "expired"},
    }
    for locator, error in expected.items():
        browser = await bench.browser()
        assert await browser.join(locator) == error
        assert await browser.closed() == 1008
        assert bench.metric("joins_total", outcome=error["code"]) == 1
    assert not any(browser.socket.closed for browser in pair[:2])


async def test_many_unknown_codes_are_limited(bench: Bench) -> None:
    for _ in range(10):
        assert (await (await bench.browser()).join("000000"))["code"] == "unknown_code"
    browser = await bench.browser()
    assert await browser.join("000000") == {"type": "error", "code": "rate_limited", "retry_after": 6}
    assert await browser.closed() == 1008


async def test_too_many_sockets_are_told_overload(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root, max_clients=2) as bench:
        browsers = [await bench.browser() for _ in range(3)]
        assert await browsers[2].receive() == {"type": "error", "code": "overload", "retry_after": 5}
        assert await browsers[2].closed() == 1008


async def test_far_too_many_sockets_are_not_even_opened(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "SPARE_SOCKETS", 0)
    async with Bench(store, web_root, max_clients=2) as bench:
        browsers = [await bench.browser() for _ in range(2)]
        with pytest.raises(WSServerHandshakeError) as caught:
            await bench.browser()
        assert caught.value.status == 503
        assert len(browsers) == 2


async def test_a_claim_is_resumed_within_its_hold(bench: Bench) -> None:
    locators = await bench.plan()
    organiser, participant, first, second = await bench.pair(locators)
    await participant.socket.close()
    assert (await organiser.receive())["present"] is False
    bench.pass_time(29)
    again = await bench.browser()
    resumed = await again.join(locators[1], resume=second["resume"])
    assert resumed["pid"] == second["pid"]
    assert (await again.receive())["pid"] == first["pid"]
    assert await organiser.receive() == {
        "type": "peer",
        "pid": second["pid"],
        "role": "participant",
        "present": True,
    }


async def test_a_claim_is_forgotten_after_thirty_seconds(bench: Bench) -> None:
    locators = await bench.plan()
    organiser, participant, _, second = await bench.pair(locators)
    await participant.socket.close()
    assert (await organiser.receive())["present"] is False
    bench.pass_time(30)
    assert bench.metric("claims_ended_total", departure="hold_expired") == 1
    again = await bench.browser()
    assert (await again.join(locators[1], resume=second["resume"]))["pid"] != second["pid"]


async def test_a_reload_takes_the_seat_from_the_old_socket(bench: Bench) -> None:
    locators = await bench.plan()
    organiser, participant, _, second = await bench.pair(locators)
    again = await bench.browser()
    assert (await again.join(locators[1], resume=second["resume"]))["pid"] == second["pid"]
    assert (await participant.receive())["code"] == "code_in_use"
    assert await participant.closed() == 1008
    assert (await organiser.receive())["present"] is True


async def test_who_does_not_join_in_ten_seconds_is_closed(bench: Bench) -> None:
    browser = await bench.browser()
    bench.pass_time(10)
    assert (await browser.receive())["code"] == "bad_message"
    assert await browser.closed() == 1008
    assert bench.metric("messages_refused_total", fault="no_join") == 1


@pytest.mark.parametrize(
    ("send", "fault"),
    [
        (lambda browser: browser.socket.send_bytes(b"{}"), "not_text"),
        (lambda browser: browser.socket.send_str("{}"), "malformed"),
        (lambda browser: browser.socket.send_str(" " * 65_537), "too_long"),
        (lambda browser: browser.send(type="paired", peer="x", ok=True), "unexpected"),
    ],
)
async def test_a_bad_message_is_told(bench: Bench, send: Callable[[Browser], Awaitable[None]], fault: str) -> None:
    browser = await bench.browser()
    await send(browser)
    assert await browser.receive() == {"type": "error", "code": "bad_message"}
    assert await browser.closed() == 1008
    assert bench.metric("messages_refused_total", fault=fault) == 1
    assert bench.metric("clients") == 0


async def test_a_message_beyond_the_buffer_closes_with_1009(bench: Bench) -> None:
    browser = await bench.browser()
    await browser.socket.send_str(" " * 200_000)
    assert await browser.closed() == 1009


async def test_the_longest_message_is_relayed(bench: Bench) -> None:
    organiser, participant, first, second = await bench.pair(await bench.plan())
    blob = "x" * 65_000
    await organiser.send(type="relay", to=second["pid"], blob=blob)
    assert await participant.receive() == {"type": "relay", "from": first["pid"], "blob": blob}
    assert bench.metric("relayed_bytes_total") == 65_000 + 8


@pytest.mark.parametrize(
    "origin", ["https://example.org", "null", "", "http://127.0.0.1", "http://127.0.0.1:1/", "ws://127.0.0.1"]
)
async def test_a_foreign_page_opens_no_socket(bench: Bench, origin: str) -> None:
    headers = {"Origin": origin}
    with pytest.raises(WSServerHandshakeError) as caught:
        await bench.connect(headers)
    assert caught.value.status == 403


async def test_no_origin_is_no_page(bench: Bench) -> None:
    with pytest.raises(WSServerHandshakeError) as caught:
        await bench.connect({})
    assert caught.value.status == 403


async def test_the_scheme_and_the_case_of_the_origin_do_not_matter(bench: Bench) -> None:
    # Behind a proxy that speaks TLS, the page is https and this socket is not.
    headers = {"Origin": "https://Room.Example.org", "Host": "room.example.ORG"}
    socket = await bench.connect(headers)
    joined = await Browser(socket).join((await bench.plan())[0])
    assert joined["ice"][0]["urls"] == ["stun:room.example.org:3478"]


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://video.example", "https://video.example"),
        ("https://Video.example:443", "https://video.example"),
        ("http://video.example:80", "http://video.example"),
        ("http://[2001:db8::7]:8080", "http://[2001:db8::7]:8080"),
    ],
)
async def test_the_page_of_the_public_url_opens_the_socket(
    store: AppointmentStore, web_root: Path, public_url: str, origin: str
) -> None:
    async with Bench(store, web_root, public_url=public_url) as bench:
        browser = await bench.browser(origin)
        assert (await browser.join((await bench.plan())[0]))["type"] == "joined"


@pytest.mark.parametrize(
    "origin",
    ["http://video.example", "https://video.example:8443", "https://other.example", "https://video.example.org"],
)
async def test_with_a_public_url_no_other_page_opens_the_socket(
    store: AppointmentStore, web_root: Path, origin: str
) -> None:
    async with Bench(store, web_root, public_url="https://video.example") as bench:
        host = origin.partition("://")[2]  # as a foreign name that leads to this machine would have it
        with pytest.raises(WSServerHandshakeError) as caught:
            await bench.connect({"Origin": origin, "Host": host})
        assert caught.value.status == 403


@pytest.mark.parametrize("host", ["exa mple", "a_b", "[::1", "evil?transport=udp"])
async def test_a_malformed_host_is_a_bad_request(bench: Bench, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    with pytest.raises(WSServerHandshakeError) as caught:
        await bench.connect(headers)
    assert caught.value.status == 400


async def test_a_configured_relay_is_told_instead_of_the_page(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root, ice={"host": "2001:db8::7"}) as bench:
        joined = await (await bench.browser()).join((await bench.plan())[0])
        assert joined["ice"][0]["urls"] == ["stun:[2001:db8::7]:3478"]


class BrokenStore(AppointmentStore):
    async def find(self, locator: str) -> Seat | None:
        del locator
        raise StoreError("broken")


class HangingStore(AppointmentStore):
    async def find(self, locator: str) -> Seat | None:
        del locator
        return await asyncio.Future()


async def test_a_broken_store_is_told_as_overload(web_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = BrokenStore("sqlite+aiosqlite:///:memory:", KEY)
    await store.open()
    async with Bench(store, web_root) as bench:
        for _ in range(3):
            assert (await (await bench.browser()).join("000000"))["code"] == "overload"
        assert bench.metric("store_failures_total") == 3
    assert "000000" not in caplog.text
    assert caplog.messages.count("a join failed on the store: StoreError") == 1
    assert "more since" not in caplog.text
    await store.close()


async def test_a_hanging_store_is_told_as_overload(web_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "LOOKUP_TIMEOUT_SECONDS", 0.0)
    store = HangingStore("sqlite+aiosqlite:///:memory:", KEY)
    await store.open()
    async with Bench(store, web_root) as bench:
        assert (await (await bench.browser()).join("000000"))["code"] == "overload"
    await store.close()


async def test_a_slow_reader_is_cut_off_and_its_claim_held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    organiser, participant, _, second = await bench.pair(await bench.plan())
    monkeypatch.setattr(outbound, "MAX_QUEUED_BYTES", 200)
    await organiser.send(type="relay", to=second["pid"], blob="x" * 200)
    gone = {"type": "peer", "pid": second["pid"], "role": "participant", "present": False}
    assert await organiser.receive() == gone
    assert bench.metric("slow_readers_total") == 1
    assert (await participant.socket.receive(timeout=WAIT_SECONDS)).type in {WSMsgType.CLOSED, WSMsgType.ERROR}


async def test_a_stranger_cannot_cut_off_whom_he_speaks_to(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    locators = await bench.plan()
    stranger, participant = await bench.browser(), await bench.browser()
    first = await stranger.join(locators[0])
    second = await participant.join(locators[1])
    await stranger.receive()
    assert (await participant.receive())["pid"] == first["pid"]
    monkeypatch.setattr(outbound, "MAX_QUEUED_BYTES", 400)
    await stranger.send(type="relay", to=second["pid"], blob="x" * 200)
    await stranger.send(type="leave")
    assert await participant.receive() == {
        "type": "peer",
        "pid": first["pid"],
        "role": "organiser",
        "present": False,
    }
    assert bench.metric("slow_readers_total") == 0
    assert bench.metric("dropped_blobs_total") == 1


async def test_messages_after_the_refusal_are_ignored(bench: Bench) -> None:
    browser = await bench.browser()
    await browser.socket.send_str("{}")
    for _ in range(5):
        await browser.socket.send_str("{}")
    received: list[WSMessage] = []
    while (message := await browser.socket.receive(timeout=WAIT_SECONDS)).type is WSMsgType.TEXT:
        received.append(message)
    assert len(received) == 1
    assert bench.metric("messages_refused_total", fault="malformed") == 1


async def test_a_ping_is_answered(bench: Bench) -> None:
    socket = await bench.connect({"Origin": bench.url}, autoping=False)
    await socket.ping(b"are you there")
    message = await socket.receive(timeout=WAIT_SECONDS)
    assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"are you there")


@pytest.mark.parametrize("control", ["ping", "pong"])
async def test_pings_and_pongs_are_paced_like_messages(bench: Bench, control: str) -> None:
    browser = await bench.browser()
    for _ in range(lobby.MESSAGE_PACE.burst + 1):
        await getattr(browser.socket, control)()
    assert await browser.receive() == {"type": "error", "code": "bad_message"}
    assert await browser.closed() == 1008
    assert bench.metric("messages_refused_total", fault="too_fast") == 1


async def test_a_ping_of_somebody_who_does_not_read_ends_his_socket(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_for_room(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(web.WebSocketResponse, "pong", wait_for_room)
    monkeypatch.setattr(websocket, "SEND_TIMEOUT_SECONDS", 0.0)
    browser = await bench.browser()
    await browser.socket.ping()
    assert (await browser.socket.receive(timeout=WAIT_SECONDS)).type in {WSMsgType.CLOSED, WSMsgType.ERROR}
    assert bench.metric("slow_readers_total") == 1


async def test_a_handshake_that_is_reset_is_no_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare = web.WebSocketResponse.prepare

    async def prepare_after_the_reset(self: web.WebSocketResponse, request: web.BaseRequest) -> object:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0)
        return await prepare(self, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", prepare_after_the_reset)
    with pytest.raises(ClientError):
        await bench.browser()
    await bench.service.stop()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []

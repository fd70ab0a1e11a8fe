import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from signaling.connection_test import ALL_TESTS_PER_MINUTE, TESTS_PER_MINUTE, TTL_SECONDS, ConnectionTest
from signaling.ice_servers import PortRange, RelayPorts
from signaling.io.store import AppointmentStore
from signaling.openapi import PREFIX
from tests.unit.signaling.io.bench import START, Bench
from tests.unit.signaling.io.test_api import Answer, Client

PORTS = RelayPorts((3478, 3479), (3478,), (5349,), PortRange(50_000, 50_999))


async def begin(bench: Bench, **more: Any) -> Answer:  # noqa: ANN401 - of `Client.ask`
    return await Client(bench).ask("POST", "/connection-test", token=None, **more)


async def test_a_stranger_is_told_every_port_and_gets_credentials_for_a_minute_and_his_address(
    store: AppointmentStore, web_root: Path
) -> None:
    async with Bench(store, web_root, relay_ports=PORTS, ice={"host": "relay.example.org"}) as bench:
        answer = await begin(bench)
    assert answer.status == 200
    assert answer.body == {
        "username": f"{int(START.timestamp()) + TTL_SECONDS}:test:127.0.0.1",
        "credential": "trial password",
        "ttl_seconds": 60,
        "address": "127.0.0.1",
        "stun_host": "relay.example.org",
        "relay_host": "relay.example.org",
        "urls": [
            "stun:relay.example.org:3478",
            "stun:relay.example.org:3479",
            "turn:relay.example.org:3478?transport=udp",
            "turn:relay.example.org:3479?transport=udp",
            "turn:relay.example.org:3478?transport=tcp",
            "turns:relay.example.org:5349?transport=tcp",
        ],
        "certificate_sha256": ["ab" * 32],
        "pages_certificate_is_listed": False,
        "certificate_problem": None,
        "relay_port_min": 50_000,
        "relay_port_max": 50_999,
    }


async def test_the_host_is_that_of_the_page_where_none_is_named(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        answer = await begin(bench, headers={"Host": "video.example.org:8080"})
        assert ConnectionTest.model_validate(answer.body).relay_host == "video.example.org"
        refused = await begin(bench, headers={"Host": "video..example"})
        assert (refused.status, refused.body["code"]) == (400, "bad_request")


async def test_a_certificate_that_browsers_refuse_is_told_where_tls_is_served(
    store: AppointmentStore, web_root: Path
) -> None:
    ice = {"host": "other.example.org"}
    async with Bench(store, web_root, relay_ports=PORTS, ice=ice) as bench:
        assert (await begin(bench)).body["certificate_problem"] == "other_name"
    async with Bench(store, web_root, relay_ports=RelayPorts((3478,), (3478,)), ice=ice) as bench:
        assert (await begin(bench)).body["certificate_problem"] is None


async def test_without_a_relay_there_is_no_test(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root, relay_ports=RelayPorts(conferences=PortRange(7882, 7882))) as bench:
        answer = await begin(bench)
    assert (answer.status, answer.body["code"]) == (404, "not_found")


async def test_a_reload_takes_the_relay_away_and_brings_it_back(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        bench.service.configure(bench.settings, bench.issuer, RelayPorts())
        assert (await begin(bench)).status == 404
        bench.service.configure(bench.settings, bench.issuer, PORTS, bench.trials)
        assert len((await begin(bench)).body["urls"]) == 6


async def test_an_address_that_asks_too_often_is_told_when_to_come_again(
    store: AppointmentStore, web_root: Path
) -> None:
    async with Bench(store, web_root) as bench:
        for _ in range(TESTS_PER_MINUTE):
            assert (await begin(bench)).status == 200
        refused = await begin(bench)
        assert (refused.status, refused.body["code"]) == (429, "rate_limited")
        assert refused.headers["Retry-After"] == str(60 // TESTS_PER_MINUTE)
        bench.service.configure(bench.settings, bench.issuer, PORTS, bench.trials)
        assert (await begin(bench)).status == 429, "a reload forgave the rate"
        bench.clock.advance(60 / TESTS_PER_MINUTE)
        assert (await begin(bench)).status == 200


async def test_all_together_are_held_up_too(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = iter(range(1, ALL_TESTS_PER_MINUTE + 2))
    monkeypatch.setattr("signaling.io.connection_test.peer_key", lambda _address: bytes(next(keys)))
    async with Bench(store, web_root) as bench:
        for _ in range(ALL_TESTS_PER_MINUTE):
            assert (await begin(bench)).status == 200
        assert (await begin(bench)).status == 429


async def test_a_body_is_refused_before_it_is_read(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        answer = await begin(bench, data=b"{}")
        assert (answer.status, answer.body["code"]) == (400, "bad_request")
        assert (await begin(bench, data=b"x" * 100_000)).status == 400


async def test_nothing_but_post_begins_a_test(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        for method in ("GET", "PUT", "DELETE"):
            answer = await Client(bench).ask(method, "/connection-test", token=None)
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_pages_of_other_sites_cannot_read_the_answer(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        answer = await begin(bench, headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_half_a_request_holds_nothing_up(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        host, port = bench.service.addresses[0]
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST {PREFIX}/connection-test HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode())
        status = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        await writer.wait_closed()
    assert status.split()[1] == b"400"


def test_the_answer_has_no_room_for_anything_else() -> None:
    schema = json.loads(json.dumps(ConnectionTest.model_json_schema()))
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(schema["properties"])

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from signaling.api_messages import MAX_BODY_BYTES, STATUS_OF, Problem
from signaling.appointments import PlannedAppointment, Role, Tier
from signaling.codes import AccessCode
from signaling.io import api
from signaling.io.store import AppointmentStore, Position, StoreError
from signaling.openapi import OPERATIONS, PREFIX, describe_api
from signaling.organisations import hash_token
from signaling.settings import SignalingSettings
from tests.unit.signaling.io.bench import KEY, START, Bench, FixedIssuer
from tests.unit.signaling.io.recording_media import RecordingMedia
from tests.unit.signaling.io.test_app import EXPECTED_HEADERS

PLUS, SECOND, BASIS = "p" * 43, "s" * 43, "b" * 43
ORGANISATIONS = {
    "practice": {"tokens_sha256": [hash_token(PLUS), hash_token(SECOND)], "tier": "plus"},
    "chambers": {"tokens_sha256": [hash_token(BASIS)], "tier": "basis"},
}
GERMAN = "2026-12-01 14:30"  # in winter one hour ahead of UTC


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """Asks the API, and holds every answer to the OpenAPI document and its models."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = PLUS,
        data: bytes | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = content_type
        url = f"{self.bench.url}{PREFIX}{path}"
        async with self.bench.session.request(method, url, data=data, headers={**sent, **(headers or {})}) as response:
            text = await response.text()
            assert {name: response.headers.get(name) for name in EXPECTED_HEADERS} == EXPECTED_HEADERS
            assert response.headers["Cache-Control"] == "no-store"
            hold_to_the_document(method, path.partition("?")[0], response.status, text)
            return Answer(response.status, json.loads(text) if text else None, dict(response.headers))

    async def create(self, start: str = GERMAN, **more: Any) -> Any:  # noqa: ANN401 - JSON
        answer = await self.ask("POST", "/appointments", {"start": start}, **more)
        assert answer.status == 201, answer
        return answer.body

    async def refused(self, code: str, method: str, path: str, body: object = None, **more: Any) -> Answer:  # noqa: ANN401
        answer = await self.ask(method, path, body, **more)
        assert answer.body["code"] == code, answer
        return answer


def locators_of(made: Any) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    return (made["locators"]["organiser"], *made["locators"]["participants"])


def hold_to_the_document(method: str, path: str, status: int, text: str) -> None:
    template = "/appointments/{id}" if path.startswith("/appointments/") else path
    operation = next((known for known in OPERATIONS if (known.method, known.path) == (method, template)), None)
    if status >= 400:
        code = Problem.model_validate_json(text, strict=True).code
        assert STATUS_OF[code] == status
        assert operation is None or code in operation.all_faults
    else:
        assert operation is not None
        assert status == operation.status
        if operation.answer is not None:
            operation.answer.model_validate_json(text, strict=True)


@pytest.fixture
async def client(store: AppointmentStore, web_root: Path) -> AsyncIterator[Client]:
    async with Bench(store, web_root, organisations=ORGANISATIONS, max_appointments_per_organisation=5) as bench:
        yield Client(bench)


async def test_a_new_appointment_leads_both_locators_to_its_seats(client: Client) -> None:
    created = await client.create()
    assert created["start"] == "2026-12-01T13:30:00Z"
    assert created["entry_opens"] == "2026-12-01T13:00:00Z"
    assert created["end"] == "2026-12-02T13:30:00Z"
    assert created["tier"] == "plus"
    for role in Role:
        seat = await client.bench.store.find(created["locators"][role])
        assert seat is not None
        assert seat.role is role
        assert seat.appointment.tier is Tier.PLUS
        assert seat.appointment.room_id.hex() != created["id"]
        AccessCode.compose(created["locators"][role], "00000")


async def test_people_meet_in_the_room_of_an_appointment_from_the_api(client: Client) -> None:
    created = await client.create("now")
    bench = client.bench
    organiser, participant = await bench.browser(), await bench.browser()
    first = await organiser.join(created["locators"]["organiser"])
    second = await participant.join(created["locators"]["participant"])
    assert (first["type"], second["type"], first["room"] == second["room"]) == ("joined", "joined", True)
    assert first["features"] == ["screen"]


async def test_where_there_is_no_media_server_two_people_may_meet_and_not_more(client: Client) -> None:
    wish = {"start": GERMAN, "participants": 2}
    answer = await client.refused("too_many_participants", "POST", "/appointments", wish)
    assert answer.body["message"] == "participants: no conferences here, there is no sfu among the services"
    assert (await client.ask("GET", "/appointments")).body["appointments"] == []


async def test_a_conference_has_a_locator_for_each_participant(store: AppointmentStore, web_root: Path) -> None:
    settings = {"organisations": ORGANISATIONS, "max_participants": 5, "media": RecordingMedia()}
    async with Bench(store, web_root, **settings) as bench:
        client = Client(bench)
        answer = await client.ask("POST", "/appointments", {"start": GERMAN, "participants": 4})
        assert answer.status == 201
        locators = answer.body["locators"]
        assert locators["participant"] == locators["participants"][0]
        for number, locator in enumerate([locators["organiser"], *locators["participants"]]):
            seat = await store.find(locator)
            assert seat is not None
            assert (seat.number, seat.appointment.participants) == (number, 4)
        assert (await client.ask("GET", "/appointments")).body["appointments"][0]["participants"] == 4
        moved = await client.ask("PATCH", f"/appointments/{answer.body['id']}", {"start": "2026-12-08 09:00"})
        assert moved.body["participants"] == 4
        refused = await client.refused(
            "too_many_participants", "POST", "/appointments", {"start": "now", "participants": 5}
        )
        assert refused.body["message"] == "participants: at most 5 people may meet here"


async def test_a_conference_needs_the_tier_plus(client: Client) -> None:
    wish = {"start": GERMAN, "participants": 2}
    await client.refused("tier", "POST", "/appointments", wish, token=BASIS)
    await client.refused("tier", "POST", "/appointments", {**wish, "tier": "basis"})


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-12-01 14:30", "2026-12-01T13:30:00Z"),
        ("01.07.2027 14:30", "2027-07-01T12:30:00Z"),
        ("2026-12-01T14:30:00+05:00", "2026-12-01T09:30:00Z"),
        ("2026-12-01T14:30:00Z", "2026-12-01T14:30:00Z"),
        ("2027-10-31T02:30+02:00", "2027-10-31T00:30:00Z"),
        ("2027-10-31T02:30+01:00", "2027-10-31T01:30:00Z"),
        ("2027-03-28 01:59", "2027-03-28T00:59:00Z"),
        ("2027-03-28 03:00", "2027-03-28T01:00:00Z"),
        ("now", "2026-11-22T09:00:00Z"),
    ],
)
async def test_a_start_is_german_time_unless_it_has_an_offset(client: Client, text: str, instant: str) -> None:
    assert (await client.create(text))["start"] == instant


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("2027-03-28 02:30", 'there is no 02:30 on 2027-03-28, summer time begins; write "2027-03-28 03:30"'),
        ("2027-10-31 02:30", 'write "2027-10-31T02:30+02:00" or "2027-10-31T02:30+01:00"'),
        ("tomorrow", "is no date with a time"),
        ("2026-12-01", "is no date with a time"),
        ("2062-12-01 14:30", "too far from today"),
        ("2026-11-21 10:00", "would have ended already"),
    ],
)
async def test_a_start_that_is_none_is_told_with_its_mend(client: Client, text: str, part: str) -> None:
    made = await client.create()
    for method, path in (("POST", "/appointments"), ("PATCH", f"/appointments/{made['id']}")):
        answer = await client.refused("bad_start", method, path, {"start": text})
        assert part in answer.body["message"]


async def test_a_tier_is_at_most_that_of_the_organisation(client: Client) -> None:
    wish = {"start": GERMAN, "tier": "plus"}
    await client.refused("tier", "POST", "/appointments", wish, token=BASIS)
    lower = await client.ask("POST", "/appointments", {"start": GERMAN, "tier": "basis"})
    assert lower.body["tier"] == "basis"
    assert (await client.create(token=BASIS))["tier"] == "basis"


async def test_the_list_shows_no_codes_and_only_own_appointments(client: Client) -> None:
    late, early = await client.create("2026-12-02 10:00"), await client.create(token=SECOND)
    await client.create(token=BASIS)
    await client.bench.plan()
    answer = await client.ask("GET", "/appointments")
    del late["locators"], early["locators"]
    assert answer.body == {"appointments": [early, late], "next": None}


async def test_the_list_is_read_page_by_page(client: Client) -> None:
    made = [(await client.create(f"2026-12-0{day} 10:00"))["id"] for day in (1, 2, 3)]
    first = (await client.ask("GET", "/appointments?limit=2")).body
    second = (await client.ask("GET", f"/appointments?limit=2&after={first['next']}")).body
    assert [entry["id"] for entry in first["appointments"] + second["appointments"]] == made
    assert second["next"] is None


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "after=x", "after=", "offset=1", "limit=1e9"]
)
async def test_a_strange_query_is_a_bad_request(client: Client, query: str) -> None:
    await client.refused("bad_request", "GET", f"/appointments?{query}")


async def test_what_has_ended_is_neither_listed_nor_moved(client: Client) -> None:
    made = await client.create("now")
    client.bench.clock.advance(24 * 3600 - 1)
    assert len((await client.ask("GET", "/appointments")).body["appointments"]) == 1
    client.bench.clock.advance(1)
    assert (await client.ask("GET", "/appointments")).body["appointments"] == []
    path = f"/appointments/{made['id']}"
    await client.refused("unknown_appointment", "PATCH", path, {"start": "now"})


async def test_a_moved_appointment_keeps_its_codes(client: Client) -> None:
    made = await client.create()
    answer = await client.ask("PATCH", f"/appointments/{made['id']}", {"start": "2026-12-08 09:00"})
    assert answer.body["start"] == "2026-12-08T08:00:00Z"
    assert answer.body["end"] == "2026-12-09T08:00:00Z"
    seat = await client.bench.store.find(made["locators"]["organiser"])
    assert seat is not None
    assert seat.appointment.start == datetime(2026, 12, 8, 8, tzinfo=UTC)


async def test_a_cancelled_appointment_is_unknown_to_everybody(client: Client) -> None:
    made = await client.create("now")
    path = f"/appointments/{made['id']}"
    assert (await client.ask("DELETE", path)).status == 204
    assert (await (await client.bench.browser()).join(made["locators"]["organiser"]))["code"] == "unknown_code"
    await client.refused("unknown_appointment", "DELETE", path)


@pytest.mark.parametrize("appointment_id", ["0" * 32, "0", "x" * 32, "%00", "a" * 500, "'; DROP TABLE seat; --"])
async def test_an_id_of_nothing_is_unknown(client: Client, appointment_id: str) -> None:
    await client.refused("unknown_appointment", "DELETE", f"/appointments/{appointment_id}")
    await client.refused("unknown_appointment", "PATCH", f"/appointments/{appointment_id}", {"start": "now"})


async def test_nobody_touches_the_appointments_of_another(client: Client) -> None:
    made = await client.create()
    path = f"/appointments/{made['id']}"
    await client.refused("unknown_appointment", "DELETE", path, token=BASIS)
    await client.refused("unknown_appointment", "PATCH", path, {"start": "now"}, token=BASIS)
    listed = (await client.ask("GET", "/appointments")).body["appointments"]
    assert [(entry["id"], entry["start"]) for entry in listed] == [(made["id"], made["start"])]


async def test_an_organisation_has_a_bounded_number_of_appointments(client: Client) -> None:
    for _ in range(5):
        await client.create()
    await client.refused("too_many_appointments", "POST", "/appointments", {"start": GERMAN})
    await client.create(token=BASIS)


@pytest.mark.parametrize("token", [None, "x" * 43, PLUS[:-1], hash_token(PLUS)])
async def test_without_a_right_token_nothing_is_told(client: Client, token: str | None) -> None:
    made = await client.create()
    for method, path in (
        ("GET", "/appointments"),
        ("POST", "/appointments"),
        ("PATCH", f"/appointments/{made['id']}"),
        ("DELETE", f"/appointments/{made['id']}"),
    ):
        answer = await client.refused("unauthorized", method, path, token=token)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert len((await client.ask("GET", "/appointments")).body["appointments"]) == 1


async def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(client: Client) -> None:
    for _ in range(api.UNKNOWN_TOKENS_PER_MINUTE):
        await client.refused("unauthorized", "GET", "/appointments", token="x" * 43)
    answer = await client.refused("rate_limited", "GET", "/appointments", token="x" * 43)
    assert answer.headers["Retry-After"] == "6"
    assert (await client.ask("GET", "/appointments")).status == 200
    client.bench.clock.advance(6)
    await client.refused("unauthorized", "GET", "/appointments", token="x" * 43)


async def test_an_organisation_has_a_rate_whatever_token_it_uses(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root, organisations=ORGANISATIONS, api_requests_per_minute=2) as bench:
        client = Client(bench)
        for token in (PLUS, SECOND):
            assert (await client.ask("GET", "/appointments", token=token)).status == 200
        for token in (PLUS, SECOND):
            answer = await client.refused("rate_limited", "GET", "/appointments", token=token)
            assert answer.headers["Retry-After"] == "30"
        assert (await client.ask("GET", "/appointments", token=BASIS)).status == 200
        bench.service.configure(bench.settings, FixedIssuer(), bench.service._endpoint._ports)
        await client.refused("rate_limited", "GET", "/appointments", token=PLUS)
        bench.clock.advance(30)
        assert (await client.ask("GET", "/appointments")).status == 200


async def test_other_settings_admit_other_tokens(client: Client) -> None:
    fresh = {"practice": {"tokens_sha256": [hash_token("n" * 43)], "tier": "basis"}}
    settings = SignalingSettings.model_validate({"organisations": fresh})
    made = await client.create()
    client.bench.service.configure(settings, FixedIssuer(), client.bench.service._endpoint._ports)
    await client.refused("unauthorized", "GET", "/appointments")
    listed = (await client.ask("GET", "/appointments", token="n" * 43)).body["appointments"]
    assert [entry["id"] for entry in listed] == [made["id"]]
    await client.refused("tier", "POST", "/appointments", {"start": GERMAN, "tier": "plus"}, token="n" * 43)


async def test_a_body_is_bounded(client: Client) -> None:
    fitting = json.dumps({"start": GERMAN}).encode().ljust(MAX_BODY_BYTES)
    assert (await client.ask("POST", "/appointments", data=fitting)).status == 201
    await client.refused("too_large", "POST", "/appointments", data=fitting + b" ")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_a_form_could_send_is_refused(client: Client, content_type: str) -> None:
    body = {"start": GERMAN}
    await client.refused("unsupported_media_type", "POST", "/appointments", body, content_type=content_type)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"start": "now", "secret": "XYZ45"}', b"\xff" * 100])
async def test_a_body_that_is_no_wish_is_a_bad_request(client: Client, data: bytes) -> None:
    await client.refused(
        "bad_request", "POST", "/appointments", data=data, headers={"Content-Type": "application/json"}
    )
    assert (await client.ask("GET", "/appointments")).body["appointments"] == []


async def test_a_body_that_does_not_come_is_not_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_TIMEOUT_SECONDS", 0.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.bench.service.addresses[0][1])
    writer.write(
        f"POST {PREFIX}/appointments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PLUS}\r\n"
        "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{".encode()
    )
    answer = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    await writer.wait_closed()
    assert answer == b"HTTP/1.1 408 Request Timeout\r\n"


@pytest.mark.parametrize("path", ["/", "/nothing", "/appointments/a/b", "/openapi.yaml"])
async def test_an_address_that_there_is_not_is_told_as_json(client: Client, path: str) -> None:
    await client.refused("not_found", "GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/appointments", {"GET", "POST"}), ("OPTIONS", "/appointments/00", {"DELETE", "PATCH"})],
)
async def test_a_wrong_method_names_the_right_ones(client: Client, method: str, path: str, allowed: set[str]) -> None:
    answer = await client.refused("method_not_allowed", method, path)
    assert set(answer.headers["Allow"].split(",")) == allowed


async def test_another_sites_page_gets_no_leave_to_read(client: Client) -> None:
    answer = await client.ask("GET", "/appointments", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_the_document_is_public(client: Client) -> None:
    answer = await client.ask("GET", "/openapi.json", token=None)
    assert answer.body == describe_api()


class BrokenStore(AppointmentStore):
    error: Exception = StoreError("broken")

    async def list_planned(
        self, organisation: str | None, *, since: datetime, count: int = 1, after: Position | None = None
    ) -> list[PlannedAppointment]:
        del organisation, since, count, after
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreError("broken"), "unavailable"), (TimeoutError(), "unavailable"), (RuntimeError("a bug"), "internal")],
)
async def test_a_broken_store_is_told_without_detail_and_counted(
    web_root: Path, caplog: pytest.LogCaptureFixture, error: Exception, code: str
) -> None:
    store = BrokenStore("sqlite+aiosqlite:///:memory:", KEY)
    store.error = error
    await store.open()
    async with Bench(store, web_root, organisations=ORGANISATIONS) as bench:
        answer = await Client(bench).refused(code, "GET", "/appointments")
        assert ("Retry-After" in answer.headers) is (code == "unavailable")
        assert bench.metric("api_requests_total", operation="listAppointments", status=str(answer.status)) == 1
    await store.close()
    assert "broken" not in answer.body["message"]
    assert "127.0.0.1" not in caplog.text


async def test_requests_are_counted_by_operation_and_status(client: Client) -> None:
    await client.create()
    await client.refused("unauthorized", "POST", "/appointments", token=None)
    await client.refused("not_found", "GET", "/nothing")
    metric = client.bench.metric
    assert metric("api_requests_total", operation="createAppointment", status="201") == 1
    assert metric("api_requests_total", operation="createAppointment", status="401") == 1
    assert metric("api_requests_total", operation="none", status="404") == 1
    assert metric("api_requests_total", operation="moveAppointment", status="200") == 0


async def test_no_name_id_locator_or_token_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = await client.create()
    await client.ask("PATCH", f"/appointments/{made['id']}", {"start": "2026-12-08 09:00"})
    await client.ask("DELETE", f"/appointments/{made['id']}")
    await client.refused("bad_start", "POST", "/appointments", {"start": "geheim"})
    private = (made["id"], *locators_of(made), PLUS, "practice", "geheim", "127.0.0.1")
    assert not [text for text in private if text in caplog.text]


async def test_after_its_end_nothing_of_an_appointment_is_left_in_any_file(client: Client, tmp_path: Path) -> None:
    def stored() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.glob("appointments.db*"))

    made = await client.create("now")
    kept = await client.create()
    store, bench = client.bench.store, client.bench
    seat = await store.find(made["locators"]["organiser"])
    assert seat is not None
    traces = [
        bytes.fromhex(made["id"]),
        seat.appointment.room_id,
        int(START.timestamp()).to_bytes(4),
        *(store._hash(locator) for locator in locators_of(made)),
    ]
    await bench.service.purge()
    assert all(trace in stored() for trace in traces), "until its end it is there"
    bench.clock.advance(timedelta(hours=24).total_seconds() + 1)
    await bench.service.purge()
    assert not [trace for trace in traces if trace in stored()]
    assert bytes.fromhex(kept["id"]) in stored()

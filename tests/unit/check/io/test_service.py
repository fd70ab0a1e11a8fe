import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from check.findings import Outcome
from check.io import service
from check.io.service import ask_service
from check.service_answer import MAX_ANSWER_BYTES, PATH
from check.target import Target
from tests.support.tcp_server import saying, serve_tcp
from tests.unit.check.test_service_answer import ANSWER

Respond = Callable[[web.Request], web.StreamResponse]


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[Target]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return respond(request)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        # A name that nobody resolves: the address decides where the request goes.
        yield Target("video.example.org", runner.addresses[0][1], is_https=False)
    finally:
        await runner.cleanup()


async def test_credentials_come_from_the_address_that_is_tried_under_the_name_of_the_service() -> None:
    seen: list[tuple[str, str, str]] = []

    def respond(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, request.host.partition(":")[0]))
        return web.json_response(ANSWER)

    async with serving(respond) as target:
        step, answer = await ask_service(target, "127.0.0.1")
    assert (step.outcome, step.code) == (Outcome.OK, 200)
    assert answer is not None and answer.username == ANSWER["username"]
    assert seen == [("POST", PATH, "video.example.org")]


ANSWERS = {
    "another service": (web.Response(status=404), Outcome.REJECTED, 404, ""),
    "too many tests": (
        web.Response(status=429, headers={"Retry-After": "17"}),
        Outcome.REJECTED,
        429,
        "again in 17 s",
    ),
    "a login portal": (
        web.Response(status=302, headers={"Location": "https://portal.example.org"}),
        Outcome.WRONG_ANSWER,
        302,
        "redirected",
    ),
    "a page": (web.Response(text="<html>"), Outcome.WRONG_ANSWER, 200, "not the answer of a connection test"),
    "an endless answer": (
        web.Response(body=json.dumps(ANSWER).encode() + b" " * MAX_ANSWER_BYTES),
        Outcome.WRONG_ANSWER,
        None,
        f"more than {MAX_ANSWER_BYTES} bytes",
    ),
    "a hostile header": (
        web.Response(status=429, headers={"Retry-After": "\x9b2J" * 9}),
        Outcome.REJECTED,
        429,
        "again in ?2J?2J?… s",
    ),
}


@pytest.mark.parametrize(("response", "outcome", "code", "detail"), ANSWERS.values(), ids=ANSWERS)
async def test_every_other_answer_is_named(
    response: web.Response, outcome: Outcome, code: int | None, detail: str
) -> None:
    async with serving(lambda _request: response) as target:
        step, answer = await ask_service(target, "127.0.0.1")
    assert answer is None
    assert (step.outcome, step.code, step.detail) == (outcome, code, detail)


async def test_a_service_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HTTP_SECONDS", 0.1)

    async with serve_tcp(saying(b"")) as port:
        step, _ = await ask_service(Target("127.0.0.1", port, is_https=False), "127.0.0.1")
    assert step.outcome is Outcome.TIMED_OUT


async def test_a_port_that_is_closed_refuses() -> None:
    step, _ = await ask_service(Target("127.0.0.1", 9, is_https=False), "127.0.0.1")
    assert step.outcome is Outcome.REFUSED

"""The HTTP API for appointments: bearer tokens, strict JSON, and a clear answer to everything else."""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError

from signaling.api_messages import (
    MAX_BODY_BYTES,
    STATUS_OF,
    ApiFault,
    ApiRefused,
    AppointmentPage,
    AppointmentView,
    AppointmentWish,
    Move,
    PageWish,
    Problem,
    add_locators,
    explain,
    parse_body,
    parse_position,
    show_appointment,
    write_position,
)
from signaling.appointments import PlannedAppointment, Tier
from signaling.german_time import StartError, parse_start
from signaling.io.clocks import Clocks
from signaling.io.metrics import SignalingMetrics
from signaling.io.store import AppointmentStore, Position, StoreError, TooManyAppointments, UnknownAppointment
from signaling.openapi import OPERATIONS, OperationId, describe_api
from signaling.organisations import Organisation, OrganisationBook, UnknownToken
from signaling.rate_limiter import AddressLimiter, Pace, RateExceeded, TokenBucket, peer_key
from signaling.settings import SignalingSettings

STORE_TIMEOUT_SECONDS = 5.0
BODY_TIMEOUT_SECONDS = 10.0
STORE_RETRY_SECONDS = 5
UNKNOWN_TOKENS_PER_MINUTE = 10  # of one address (/64 for IPv6)
MAX_LIMITED_ADDRESSES = 10_000

_OFFERED_TIERS = {Tier.BASIS: (Tier.BASIS,), Tier.PLUS: (Tier.BASIS, Tier.PLUS)}
_OF_HTTP = {
    HTTPStatus.BAD_REQUEST: (ApiFault.BAD_REQUEST, "the request cannot be read"),
    HTTPStatus.NOT_FOUND: (ApiFault.NOT_FOUND, "there is no such address; see /api/v1/openapi.json"),
    HTTPStatus.METHOD_NOT_ALLOWED: (ApiFault.METHOD_NOT_ALLOWED, "the address does not take this method"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (ApiFault.TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes"),
}
_logger = logging.getLogger(__name__)

ApiHandler = Callable[[web.Request], Awaitable[web.Response]]  # what it refuses, it raises as ApiRefused


class AppointmentApi:
    """Answers the operations of `signaling.openapi`; `build` makes an application of them."""

    def __init__(
        self,
        settings: SignalingSettings,
        store: AppointmentStore,
        *,
        metrics: SignalingMetrics,
        clocks: Clocks,
    ) -> None:
        """Prepare the API.

        Args:
            settings: organisations and bounds.
            store: the appointments, open.
            metrics: counts requests.
            clocks: the clocks to go by.
        """
        self._store = store
        self._metrics = metrics
        self._clocks = clocks
        self._document = json.dumps(describe_api()).encode()
        self._has_media = False
        self._pace: Pace | None = None
        self._buckets: dict[str, TokenBucket] = {}  # by organisation: no more than the settings name
        pace = Pace(60 / UNKNOWN_TOKENS_PER_MINUTE, UNKNOWN_TOKENS_PER_MINUTE)
        self._strangers = AddressLimiter(pace, MAX_LIMITED_ADDRESSES)
        self.configure(settings)

    def use_media(self) -> None:
        """Let organisations make appointments with several participants, because there is a media server."""
        self._has_media = True

    def configure(self, settings: SignalingSettings) -> None:
        """Take other organisations and bounds into use. Nobody's rate is forgiven, unless the rate is another one."""
        per_minute = settings.api_requests_per_minute
        pace, now = Pace(60 / per_minute, per_minute), self._clocks.monotonic()
        kept = self._buckets if pace == self._pace else {}
        self._settings, self._pace = settings, pace
        self._organisations = OrganisationBook(settings.organisations)
        self._buckets = {name: kept.get(name) or TokenBucket(pace, now) for name in settings.organisations}

    def build(self, test_connection: ApiHandler) -> web.Application:
        """Make the application, to be mounted at `/api/v1`; `test_connection` serves what needs no appointment."""
        handlers: dict[OperationId, ApiHandler] = {
            OperationId.LIST: self._list,
            OperationId.CREATE: self._create,
            OperationId.MOVE: self._move,
            OperationId.CANCEL: self._cancel,
            OperationId.TEST_CONNECTION: test_connection,
            OperationId.DESCRIBE: self._describe,
        }
        app = web.Application(middlewares=[self._answer_faults])
        for operation in OPERATIONS:
            app.router.add_route(operation.method, operation.path, handlers[operation.id], name=operation.id)
        return app

    async def _describe(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _list(self, request: web.Request) -> web.Response:
        organisation = self._authenticate(request)
        wish = _parse_query(request)
        after = Position(*parse_position(wish.after)) if wish.after is not None else None
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            planned = await self._store.list_planned(
                organisation.name, since=self._oldest(), count=wish.limit, after=after
            )
        following = write_position(planned[-1]) if len(planned) == wish.limit else None
        return _answer(AppointmentPage(appointments=tuple(map(self._view, planned)), next=following))

    async def _create(self, request: web.Request) -> web.Response:
        organisation = self._authenticate(request)
        wish = parse_body(AppointmentWish, await _read_body(request))
        tier = wish.tier or organisation.tier
        if tier not in _OFFERED_TIERS[organisation.tier]:
            raise ApiRefused(ApiFault.TIER, f"the tier of the organisation is {organisation.tier}")
        self._check_participants(wish.participants, tier)
        start = self._parse_start(wish.start)
        limit = self._settings.max_appointments_per_organisation
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            new = await self._store.create(
                start, tier, participants=wish.participants, organisation=organisation.name, limit=limit
            )
        view = self._view(new.planned)
        return _answer(add_locators(view, new.organiser_locator, new.participant_locators), HTTPStatus.CREATED)

    async def _move(self, request: web.Request) -> web.Response:
        organisation = self._authenticate(request)
        start = self._parse_start(parse_body(Move, await _read_body(request)).start)
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            moved = await self._store.move(_parse_id(request), organisation.name, start, since=self._oldest())
        return _answer(self._view(moved))

    async def _cancel(self, request: web.Request) -> web.Response:
        organisation = self._authenticate(request)
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            await self._store.cancel(_parse_id(request), organisation.name)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _authenticate(self, request: web.Request) -> Organisation:
        """Tell who asks, and count the request.

        A right token is never held up by wrong ones from the same address: it is looked at first.
        """
        values = request.headers.getall("Authorization", [])
        now = self._clocks.monotonic()
        try:
            try:
                organisation = self._organisations.authenticate(values[0] if len(values) == 1 else "")
            except UnknownToken:
                self._strangers.take(peer_key(request.remote), now)
                raise ApiRefused(ApiFault.UNAUTHORIZED, "send Authorization: Bearer and a valid token") from None
            self._buckets[organisation.name].take(now)
        except RateExceeded as exceeded:
            seconds = max(1, math.ceil(exceeded.retry_after))
            message = f"too many requests; again in {seconds} s"
            raise ApiRefused(ApiFault.RATE_LIMITED, message, retry_after=seconds) from None
        return organisation

    def _parse_start(self, text: str) -> datetime:
        now = self._clocks.utc_now()
        try:
            start = parse_start(text, now)
        except StartError as error:
            raise ApiRefused(ApiFault.BAD_START, f"start: {error}") from None
        if self._settings.window(start).closes_at <= now:
            raise ApiRefused(ApiFault.BAD_START, "start: the codes would have ended already; choose a later time")
        return start

    def _check_participants(self, participants: int, tier: Tier) -> None:
        if participants == 1:
            return
        if tier is not Tier.PLUS:
            raise ApiRefused(ApiFault.TIER, "more than one participant needs the tier plus")
        no_media = None if self._has_media else "there is no sfu among the services"
        if (reason := self._settings.why_no_conferences or no_media) is not None:
            raise ApiRefused(ApiFault.TOO_MANY_PARTICIPANTS, f"participants: no conferences here, {reason}")
        limit = self._settings.conference_limit
        if participants >= limit:
            raise ApiRefused(ApiFault.TOO_MANY_PARTICIPANTS, f"participants: at most {limit} people may meet here")

    def _oldest(self) -> datetime:
        return self._settings.oldest_start(self._clocks.utc_now())

    def _view(self, planned: PlannedAppointment) -> AppointmentView:
        return show_appointment(planned, self._settings.window(planned.start))

    @web.middleware
    async def _answer_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        operation = OperationId(resource.name) if resource is not None and resource.name else None
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ApiRefused as refused:
            response = _refuse(refused)
        except UnknownAppointment:
            response = _refuse(ApiRefused(ApiFault.UNKNOWN_APPOINTMENT, "the organisation has no such appointment"))
        except TooManyAppointments:
            response = _refuse(ApiRefused(ApiFault.TOO_MANY_APPOINTMENTS, "cancel appointments, or wait for their end"))
        except (StoreError, TimeoutError) as error:
            self._metrics.count_store_failure()
            _logger.error("a request to the API failed on the store: %r", error)  # noqa: TRY400 - one line is enough
            message = "the appointments cannot be reached at the moment"
            response = _refuse(ApiRefused(ApiFault.UNAVAILABLE, message, retry_after=STORE_RETRY_SECONDS))
        except web.HTTPException as error:
            fault, message = _OF_HTTP.get(HTTPStatus(error.status), (ApiFault.INTERNAL, "this did not work"))
            response = _refuse(ApiRefused(fault, message))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        except Exception:
            _logger.exception("a request to the API failed")
            response = _refuse(ApiRefused(ApiFault.INTERNAL, "this did not work"))
        response.headers["Cache-Control"] = "no-store"
        self._metrics.count_api_request(operation, response.status)
        return response


def _parse_query(request: web.Request) -> PageWish:
    query = request.query
    values: dict[str, str] = {}
    for key, value in query.items():
        if key in values:
            raise ApiRefused(ApiFault.BAD_REQUEST, "a query parameter comes twice")
        values[key] = value
    try:
        return PageWish.model_validate(values)
    except ValidationError as error:
        raise ApiRefused(ApiFault.BAD_REQUEST, explain(error)) from None


def _parse_id(request: web.Request) -> bytes:
    try:
        return bytes.fromhex(request.match_info["id"])
    except ValueError:
        raise UnknownAppointment from None


async def _read_body(request: web.Request) -> bytes:
    """Read the body, which the application bounds, in bounded time.

    Raises:
        ApiRefused: it is no JSON by its type, or it does not come.
    """
    if request.content_type != "application/json":
        raise ApiRefused(ApiFault.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            return await request.read()
    except TimeoutError:
        raise ApiRefused(ApiFault.TIMEOUT, f"the body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} s") from None


def _answer(model: BaseModel, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, text=model.model_dump_json(), content_type="application/json")


def _refuse(refused: ApiRefused) -> web.Response:
    response = _answer(Problem(code=refused.fault, message=str(refused)), STATUS_OF[refused.fault])
    if refused.fault is ApiFault.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if refused.retry_after is not None:
        response.headers["Retry-After"] = str(refused.retry_after)
    return response

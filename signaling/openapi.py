"""The operations of the HTTP API, and the OpenAPI 3.1 document that is made of them and their models."""

from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from signaling.api_messages import (
    STATUS_OF,
    ApiFault,
    AppointmentId,
    AppointmentPage,
    AppointmentView,
    AppointmentWish,
    Move,
    NewAppointmentView,
    PageWish,
    Problem,
)
from signaling.connection_test import ConnectionTest

PREFIX = "/api/v1"
API_VERSION = "1.2"  # the second number grows with what old clients may ignore

_REF = "#/components/schemas/{model}"
_TEXTS = {
    ApiFault.BAD_REQUEST: "The request is not what this document says.",
    ApiFault.BAD_START: "The start is no time, comes never or twice that day, has passed, or is too far away.",
    ApiFault.UNAUTHORIZED: "No token, or nobody's.",
    ApiFault.TIER: "The organisation has not booked this tier.",
    ApiFault.UNKNOWN_APPOINTMENT: "The organisation has no such appointment, or it has ended.",
    ApiFault.NOT_FOUND: "There is no such address.",
    ApiFault.METHOD_NOT_ALLOWED: "The address does not take this method; Allow names those that it does.",
    ApiFault.TIMEOUT: "The body did not arrive in time.",
    ApiFault.TOO_MANY_APPOINTMENTS: "The organisation has as many appointments as it may.",
    ApiFault.TOO_MANY_PARTICIPANTS: "No appointment here may have so many; the message says how many may meet.",
    ApiFault.TOO_LARGE: "The body is too long.",
    ApiFault.UNSUPPORTED_MEDIA_TYPE: "The body is not application/json.",
    ApiFault.RATE_LIMITED: "Too many requests; Retry-After says for how many seconds.",
    ApiFault.INTERNAL: "A fault of the server.",
    ApiFault.UNAVAILABLE: "The appointments cannot be reached at the moment.",
}


class OperationId(StrEnum):
    """What the API can do."""

    LIST = "listAppointments"
    CREATE = "createAppointment"
    MOVE = "moveAppointment"
    CANCEL = "cancelAppointment"
    TEST_CONNECTION = "testConnection"
    DESCRIBE = "describeApi"


class Operation(NamedTuple):
    """One method of one address."""

    id: OperationId
    method: str
    path: str  # below PREFIX
    summary: str
    status: int  # of success
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    faults: tuple[ApiFault, ...] = ()
    is_public: bool = False

    @property
    def all_faults(self) -> tuple[ApiFault, ...]:
        """Every fault that it may answer with."""
        faults = [*self.faults, ApiFault.INTERNAL]
        if self.body is not None:
            faults += [ApiFault.TIMEOUT, ApiFault.TOO_LARGE, ApiFault.UNSUPPORTED_MEDIA_TYPE]
        if not self.is_public:
            faults += [ApiFault.UNAUTHORIZED, ApiFault.RATE_LIMITED, ApiFault.UNAVAILABLE, ApiFault.BAD_REQUEST]
        return tuple(faults)


OPERATIONS = (
    Operation(
        OperationId.LIST,
        "GET",
        "/appointments",
        "List the organisation's appointments that have not ended, by their planned start.",
        200,
        answer=AppointmentPage,
        query=PageWish,
    ),
    Operation(
        OperationId.CREATE,
        "POST",
        "/appointments",
        "Make an appointment. The client draws the secret of its codes; no request may ever carry it.",
        201,
        answer=NewAppointmentView,
        body=AppointmentWish,
        faults=(
            ApiFault.BAD_START,
            ApiFault.TIER,
            ApiFault.TOO_MANY_APPOINTMENTS,
            ApiFault.TOO_MANY_PARTICIPANTS,
        ),
    ),
    Operation(
        OperationId.MOVE,
        "PATCH",
        "/appointments/{id}",
        "Give an appointment another start. Its codes stay the same.",
        200,
        answer=AppointmentView,
        body=Move,
        faults=(ApiFault.BAD_START, ApiFault.UNKNOWN_APPOINTMENT),
    ),
    Operation(
        OperationId.CANCEL,
        "DELETE",
        "/appointments/{id}",
        "Cancel an appointment: its codes are unknown from now on. Who is in the room already may stay.",
        204,
        faults=(ApiFault.UNKNOWN_APPOINTMENT,),
    ),
    Operation(
        OperationId.TEST_CONNECTION,
        "POST",
        "/connection-test",
        "Begin a connection test: every port of the relay, and credentials for this address that are good for nothing "
        "else. Without a relay there is none (404).",
        200,
        answer=ConnectionTest,
        faults=(ApiFault.BAD_REQUEST, ApiFault.NOT_FOUND, ApiFault.RATE_LIMITED),
        is_public=True,
    ),
    Operation(OperationId.DESCRIBE, "GET", "/openapi.json", "This document.", 200, is_public=True),
)


def describe_api() -> dict[str, Any]:
    """Make the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "redconnect: appointments",
            "version": API_VERSION,
            "description": "Appointments of an organisation. The server answers with locators, the first six symbols "
            "of a code; the five of the secret are drawn by the client and never sent.",
        },
        "servers": [{"url": PREFIX}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`redconnect organisation token`"}
            },
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.id.value, "summary": operation.summary}
    parameters = _parameters(operation)
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    success: dict[str, Any] = {"description": "Done."}
    if operation.answer is not None:
        success["content"] = _content(operation.answer)
    elif operation.status != 204:
        success["content"] = {"application/json": {"schema": {"type": "object"}}}
    responses = {str(operation.status): success}
    for fault in sorted(operation.all_faults, key=lambda fault: (STATUS_OF[fault], fault)):
        text = f"`{fault}`: {_TEXTS[fault]}"
        same = responses.setdefault(str(STATUS_OF[fault]), {"description": "", "content": _content(Problem)})
        same["description"] = " ".join(filter(None, (same["description"], text)))
    described["responses"] = responses
    if operation.is_public:
        described["security"] = []
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if "{id}" in operation.path:
        schema = TypeAdapter(AppointmentId).json_schema()
        parameters.append({"name": "id", "in": "path", "required": True, "schema": schema})
    if operation.query is not None:
        schema = operation.query.model_json_schema(mode="validation")
        required = schema.get("required", [])
        for name, value in schema["properties"].items():
            parameters.append({"name": name, "in": "query", "required": name in required, "schema": value})
    return parameters


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "serialization")]
    for operation in OPERATIONS:
        if operation.body is not None:
            models.append((operation.body, "validation"))
        if operation.answer is not None:
            models.append((operation.answer, "serialization"))
    _, document = models_json_schema(models, ref_template=_REF)
    schemas: dict[str, Any] = document["$defs"]
    return schemas

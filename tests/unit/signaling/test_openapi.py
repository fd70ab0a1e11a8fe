import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from signaling.api_messages import STATUS_OF, ApiFault
from signaling.openapi import OPERATIONS, Operation, describe_api

DOCUMENT = describe_api()


def described(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][operation.path][operation.method.lower()]
    return found


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_json_and_openapi_3_1() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert {name.rpartition("/")[2] for name in found} <= set(DOCUMENT["components"]["schemas"])
    assert len(found) >= 6


def test_every_operation_is_described_once() -> None:
    ids = [entry["operationId"] for methods in DOCUMENT["paths"].values() for entry in methods.values()]
    assert sorted(ids) == sorted(operation.id for operation in OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_an_operation_tells_its_parameters_statuses_and_whether_it_needs_a_token(operation: Operation) -> None:
    entry = described(operation)
    in_path = {parameter["name"] for parameter in entry.get("parameters", []) if parameter["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)\}", operation.path))
    statuses = {str(operation.status)} | {str(STATUS_OF[fault]) for fault in operation.all_faults}
    assert set(entry["responses"]) == statuses
    assert (entry.get("security") == []) is operation.is_public
    assert ("requestBody" in entry) is (operation.body is not None)


def test_models_are_closed_and_instants_are_marked() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in ("AppointmentWish", "Move", "AppointmentView", "NewAppointmentView", "AppointmentPage", "Problem"):
        assert schemas[name]["additionalProperties"] is False, name
    start = schemas["AppointmentView"]["properties"]["start"]
    assert (start["type"], start["format"]) == ("string", "date-time")
    assert set(schemas["ApiFault"]["enum"]) == set(ApiFault)


def test_no_answer_has_room_for_a_secret_or_a_room() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    view = {"id", "start", "entry_opens", "end", "tier", "participants"}
    assert set(schemas["NewAppointmentView"]["properties"]) == {*view, "locators"}
    assert set(schemas["Locators"]["properties"]) == {"organiser", "participant", "participants"}
    assert set(schemas["AppointmentView"]["properties"]) == view

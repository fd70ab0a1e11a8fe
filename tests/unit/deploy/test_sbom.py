import json
import re
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from scripts import sbom

Text = Annotated[str, StringConstraints(min_length=1)]
Ref = Annotated[str, StringConstraints(pattern=r"^pkg:(pypi|npm|generic)/[a-z0-9._-]+@[0-9][A-Za-z0-9.]*$")]


class Part(BaseModel):
    """Nothing but these fields, which are those of CycloneDX 1.6 that we write."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Licence(Part):
    id: Text | None = None
    name: Text | None = None
    acknowledgement: Literal["declared"]


class NamedLicence(Part):
    license: Licence


class Expression(Part):
    expression: Text
    acknowledgement: Literal["declared"]


class Property(Part):
    name: Annotated[str, StringConstraints(pattern=r"^redconnect:[a-z-]+$")]
    value: Text


class Component(Part):
    type: Literal["library"]
    bom_ref: Ref = Field(alias="bom-ref")
    name: Text
    version: Text
    scope: Literal["required", "excluded"]
    licenses: list[NamedLicence] | Annotated[list[Expression], Field(max_length=1)] | None = None
    purl: Ref
    properties: list[Property]


class Own(Part):
    type: Literal["application"]
    bom_ref: Ref = Field(alias="bom-ref")
    name: Literal["redconnect"]
    version: Text
    description: Text
    licenses: list[NamedLicence]
    purl: Ref


class Metadata(Part):
    component: Own
    properties: list[Property]


class Dependency(Part):
    ref: Ref
    depends_on: list[Ref] = Field(alias="dependsOn")


class Document(Part):
    bom_format: Literal["CycloneDX"] = Field(alias="bomFormat")
    spec_version: Literal["1.6"] = Field(alias="specVersion")
    version: int
    metadata: Metadata
    components: list[Component]
    dependencies: list[Dependency]


@pytest.fixture(scope="module")
def document() -> Document:
    return Document.model_validate_json(sbom.TARGET.read_bytes())


def test_the_committed_file_is_the_one_that_the_pins_and_the_installed_packages_give() -> None:
    assert sbom.TARGET.read_text() == sbom.write(sbom.build()), "run make sbom"


def test_it_is_valid_by_the_schema_of_cyclonedx_and_a_word_that_is_not_in_the_schema_makes_it_invalid() -> None:
    validator, text = JsonStrictValidator(SchemaVersion.V1_6), sbom.TARGET.read_text()
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"scope": "required"', '"scope": "needed"')) is not None
    assert validator.validate_str(text.replace('"id": "Apache-2.0"', '"id": "Apache-2.00"')) is not None


def test_every_pinned_package_is_in_it_once_and_nothing_else(document: Document) -> None:
    lines = [line for name in ("runtime", "dev") for line in _lines(name) if re.match(r"[A-Za-z0-9]", line)]
    pinned = {line.split()[0].lower().replace("_", "-").replace("==", "@", 1) for line in lines}
    python = [each.bom_ref.removeprefix("pkg:pypi/") for each in document.components if "pypi" in each.bom_ref]
    assert {re.sub(r"[._-]+(?=.*@)", "-", each) for each in pinned} == set(python)
    assert len(python) == len(set(python))


def test_what_tests_inject_into_pages_is_in_it_and_marked_as_such(document: Document) -> None:
    wanted = json.loads((sbom.NPM / "package.json").read_text())["dependencies"]
    npm = {each.name: each for each in document.components if each.bom_ref.startswith("pkg:npm/")}
    assert {name: each.version for name, each in npm.items()} == wanted
    assert {each.scope for each in npm.values()} == {"excluded"}


def test_what_the_service_needs_is_what_it_leads_to_and_all_else_is_marked_as_of_tests(document: Document) -> None:
    needs = {each.ref: each.depends_on for each in document.dependencies}
    reached: set[str] = set()
    todo = [document.metadata.component.bom_ref]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += needs[ref]
    required = {each.bom_ref for each in document.components if each.scope == "required"}
    assert reached - {document.metadata.component.bom_ref} == required
    assert {each.bom_ref for each in document.components if _use(each) == "runtime"} == required


def test_it_names_no_address_from_which_anything_was_fetched() -> None:
    assert "://" not in sbom.TARGET.read_text()


def test_a_package_of_the_service_without_a_licence_would_be_seen(document: Document) -> None:
    assert [each.name for each in document.components if each.scope == "required" and not each.licenses] == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License-Expression": ["MIT OR Apache-2.0"], "License": ["x"]}, [{"expression": "MIT OR Apache-2.0"}]),
        ({"License": ["Apache 2.0"]}, [{"license": {"id": "Apache-2.0"}}]),
        ({"Classifier": ["License :: OSI Approved :: MIT License"]}, [{"license": {"id": "MIT"}}]),
        (
            {"License": ["MIT License"], "Classifier": ["License :: OSI Approved :: Apache Software License"]},
            [{"license": {"id": "Apache-2.0"}}, {"license": {"id": "MIT"}}],
        ),
        ({"Classifier": ["License :: OSI Approved :: BSD License"]}, [{"license": {"name": "BSD License"}}]),
        ({"License": ["a whole licence\nover many lines"]}, []),
        ({"Classifier": ["Programming Language :: Python"]}, []),
    ],
)
def test_a_licence_is_read_as_it_is_declared(fields: dict[str, list[str]], expected: list[dict[str, Any]]) -> None:
    found = [_without_acknowledgement(each) for each in sbom.read_licenses(_distribution(fields))]
    assert found == expected


@pytest.mark.parametrize(
    ("pin", "told"),
    [
        ("no-such-package==1.0", "no-such-package is pinned but not installed"),
        ("aiohttp==0.0.1", "aiohttp is pinned as 0.0.1 but installed as"),
    ],
)
def test_what_is_not_installed_as_it_is_pinned_is_told(tmp_path: Path, pin: str, told: str) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "pyproject.toml").write_text((sbom.ROOT / "pyproject.toml").read_text())
    (tmp_path / "requirements" / "runtime.txt").write_text(f"{pin} \\\n    --hash=sha256:00\n")
    (tmp_path / "requirements" / "dev.txt").write_text("")
    with pytest.raises(sbom.SbomError, match=told):
        sbom.build(tmp_path)


def _lines(name: str) -> Iterator[str]:
    yield from (sbom.ROOT / "requirements" / f"{name}.txt").read_text().splitlines()


def _use(component: Component) -> str:
    return next(each.value for each in component.properties if each.name == "redconnect:use")


def _without_acknowledgement(licence: dict[str, Any]) -> dict[str, Any]:
    shorn = TypeAdapter(dict[str, Any]).validate_python(json.loads(json.dumps(licence)))
    for holder in (shorn, shorn.get("license", {})):
        holder.pop("acknowledgement", None)
    return shorn


def _distribution(fields: dict[str, list[str]]) -> Distribution:
    message = Message()
    for name, values in fields.items():
        for value in values:
            message[name] = value

    class Described(PathDistribution):
        metadata = message  # type: ignore[assignment]

    return Described(Path())

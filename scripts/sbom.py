"""Write the software bill of materials, deploy/sbom.cdx.json: `.venv/bin/python -m scripts.sbom`.

CycloneDX 1.6, made of what is pinned (requirements/*.txt, tests/e2e/package.json) and of what the installed packages
say of themselves (licence, what they need). It has no instant and no serial number, so that the same pins give the same
bytes and a test can tell that it is up to date. Why no library writes it: deploy/sbom.md.
"""
# ruff: noqa: INP001  # a folder of commands, no package

import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET: Final = ROOT / "deploy" / "sbom.cdx.json"
NPM: Final = ROOT / "tests" / "e2e"

_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s\\;]+)", re.MULTILINE)
# Markers are read for the one platform that is supported, whichever machine this runs on.
_PLATFORM: Final = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
}
# What packages without an SPDX expression write, in the field License or as a classifier, and what SPDX calls it.
_SPDX: Final = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MPL-2.0": "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_CLASSIFIER: Final = "License :: OSI Approved :: "

Json = dict[str, Any]


class SbomError(Exception):
    """What is installed is not what is pinned; the message says what to do."""


class Pinned(NamedTuple):
    """One package of requirements/*.txt."""

    name: str
    version: str
    is_runtime: bool

    @property
    def ref(self) -> str:
        """Its package URL, which is also what it is called inside the document."""
        return f"pkg:pypi/{self.name}@{self.version}"


def build(root: Path = ROOT) -> Json:
    """Make the document.

    Raises:
        SbomError: a pinned package is not installed, or in another version.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    own: Json = {
        "type": "application",
        "bom-ref": f"pkg:generic/{project['name']}@{project['version']}",
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "licenses": [_license({"id": project["license"]})],
        "purl": f"pkg:generic/{project['name']}@{project['version']}",
    }
    pins = read_pins(root)
    installed = {name: _installed(pin) for name, pin in pins.items()}
    extras = _extras(root, installed)
    direct = {pins[name].ref for name in _direct(root)}
    components = [_component(pin, installed[name]) for name, pin in pins.items()]
    dependencies = [{"ref": own["bom-ref"], "dependsOn": sorted(direct)}]
    for name, pin in pins.items():
        needed = {pins[other].ref for other in _needs(installed[name], extras.get(name, set())) if other in pins}
        dependencies.append({"ref": pin.ref, "dependsOn": sorted(needed)})
    for component in _npm_components(root / NPM.relative_to(ROOT)):
        components.append(component)
        dependencies.append({"ref": component["bom-ref"], "dependsOn": []})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own, "properties": [{"name": "redconnect:made-by", "value": "scripts/sbom.py"}]},
        "components": components,
        "dependencies": dependencies,
    }


def write(document: Json) -> str:
    """The document as text."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def read_pins(root: Path) -> dict[str, Pinned]:
    """What requirements/*.txt pin, by canonical name. What the service needs may be pinned for tests, too."""
    runtime = _pins(root / "requirements" / "runtime.txt")
    every = _pins(root / "requirements" / "dev.txt") | runtime
    return {name: Pinned(name, every[name], name in runtime) for name in sorted(every)}


def _pins(path: Path) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in _PIN.findall(path.read_text())}


def _direct(root: Path) -> Iterator[str]:
    for wanted in _wanted(root):
        yield canonicalize_name(wanted.name)


def _wanted(root: Path) -> Iterator[Requirement]:
    """What runtime.in asks for."""
    for line in (root / "requirements" / "runtime.in").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield Requirement(text)


def _installed(pin: Pinned) -> Distribution:
    try:
        found = distribution(pin.name)
    except PackageNotFoundError:
        raise SbomError(f"{pin.name} is pinned but not installed: run make setup") from None
    if found.version != pin.version:
        raise SbomError(f"{pin.name} is pinned as {pin.version} but installed as {found.version}: run make setup")
    return found


def _extras(root: Path, installed: Mapping[str, Distribution]) -> dict[str, set[str]]:
    """The extras that somebody asks for, by package."""
    found: dict[str, set[str]] = {}
    asked = [*_wanted(root), *(Requirement(text) for each in installed.values() for text in each.requires or ())]
    for requirement in asked:
        if requirement.extras and (requirement.marker is None or requirement.marker.evaluate(_environment(""))):
            found.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return found


def _needs(package: Distribution, extras: set[str]) -> Iterator[str]:
    for text in package.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate(_environment(extra)) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name)


def _environment(extra: str) -> dict[str, str]:
    return {**_PLATFORM, "extra": extra}


def _component(pin: Pinned, package: Distribution) -> Json:
    component: Json = {
        "type": "library",
        "bom-ref": pin.ref,
        "name": pin.name,
        "version": pin.version,
        "scope": "required" if pin.is_runtime else "excluded",  # CycloneDX's word for what only tests and builds use
        "licenses": read_licenses(package),
        "purl": pin.ref,
        "properties": [{"name": "redconnect:use", "value": "runtime" if pin.is_runtime else "tests"}],
    }
    if not component["licenses"]:
        del component["licenses"]
        component["properties"].append({"name": "redconnect:licence", "value": "not declared in its metadata"})
    return component


def read_licenses(package: Distribution) -> list[Json]:
    """What the metadata of a package declares: its SPDX expression, or else field and classifiers in words of SPDX."""
    metadata = package.metadata
    for expression in metadata.get_all("License-Expression") or ():
        return [{"expression": expression, "acknowledgement": "declared"}]
    classifiers = [
        text.removeprefix(_CLASSIFIER) for text in metadata.get_all("Classifier") or () if text.startswith(_CLASSIFIER)
    ]
    fields: list[str] = metadata.get_all("License") or []
    declared = [text for text in (*fields, *classifiers) if text and "\n" not in text]
    known = sorted({_SPDX[text] for text in declared if text in _SPDX})
    if known:
        return [_license({"id": spdx}) for spdx in known]
    return [_license({"name": text}) for text in declared[:1]]


def _license(named: Json) -> Json:
    return {"license": {**named, "acknowledgement": "declared"}}


def _npm_components(folder: Path) -> Iterator[Json]:
    """What tests inject into pages. It is no part of any page that is served."""
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    for name, version in sorted(wanted.items()):
        manifest = folder / "node_modules" / name / "package.json"
        if not manifest.exists():
            raise SbomError(f"{name} is pinned but not installed: run make setup")
        package = json.loads(manifest.read_text())
        if package["version"] != version:
            raise SbomError(f"{name} is pinned as {version} but installed as {package['version']}: run make setup")
        ref = f"pkg:npm/{name}@{version}"
        yield {
            "type": "library",
            "bom-ref": ref,
            "name": name,
            "version": version,
            "scope": "excluded",
            "licenses": [{"expression": package["license"], "acknowledgement": "declared"}],
            "purl": ref,
            "properties": [{"name": "redconnect:use", "value": "tests"}],
        }


def main() -> int:
    """Write the file; 1 if what is installed is not what is pinned."""
    try:
        text = write(build())
    except SbomError as error:
        sys.stderr.write(f"sbom: {error}\n")
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

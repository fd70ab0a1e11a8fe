"""Which version this is."""

import tomllib
from importlib import metadata
from pathlib import Path


def current_version() -> str:
    """The version of the installed distribution, or of the checkout that runs without being installed (`make run`)."""
    project = Path(__file__).parent.parent / "pyproject.toml"
    if project.exists():
        version: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        return version
    return metadata.version("redconnect")

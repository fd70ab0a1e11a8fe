"""Write the JSON Schema of the report into docs/check.schema.json: `python -m check.schema`."""

import json
from pathlib import Path
from typing import Final

from check.findings import schema

FILE: Final = Path(__file__).resolve().parents[1] / "docs" / "check.schema.json"


def write_schema() -> None:
    """Replace the file."""
    FILE.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()

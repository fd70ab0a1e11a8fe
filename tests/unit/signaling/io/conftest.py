import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from signaling.io.app import WEB_ROOT
from signaling.io.assets import TEMPLATES
from signaling.io.store import AppointmentStore
from tests.unit.signaling.io.bench import KEY, Bench


@pytest.fixture
def web_root(tmp_path: Path) -> Path:
    root = tmp_path / "web"
    (root / "js").mkdir(parents=True)
    (root / "css").mkdir()
    (root / "index.html").write_text("<!doctype html><html lang=de><title>Grüezi</title>")
    (root / "js" / "room.js").write_text("export const room = 1;\n")
    (root / "css" / "room.css").write_text("body { color: black }\n")
    shutil.copytree(WEB_ROOT / TEMPLATES, root / TEMPLATES)
    return root


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AppointmentStore]:
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'appointments.db'}", KEY)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bench(store: AppointmentStore, web_root: Path) -> AsyncIterator[Bench]:
    async with Bench(store, web_root) as bench:
        yield bench

import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from signaling.io.app import WEB_ROOT
from signaling.io.assets import TEMPLATES
from signaling.io.store import AppointmentStore
from tests.support.postgres import run_postgres
from tests.unit.signaling.io.bench import KEY, Bench


@pytest.fixture
def web_root(tmp_path: Path) -> Path:
    root = tmp_path / "web"
    (root / "js").mkdir(parents=True)
    (root / "css").mkdir()
    (root / "index.html").write_text("<!doctype html><html lang=de><title>Grüezi</title>")
    (root / "test.html").write_text("<!doctype html><html lang=de><title>Verbindungstest</title>")
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with run_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the product supports."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'appointments.db'}"
    server: str = request.getfixturevalue("postgres")
    name = f"test_{secrets.token_hex(8)}"
    engine = create_async_engine(f"{server}postgres", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {name}")
    await engine.dispose()
    return server + name


@pytest.fixture
async def any_store(database_url: str) -> AsyncIterator[AppointmentStore]:
    """The store, on each database."""
    store = AppointmentStore(database_url, KEY)
    await store.open()
    yield store
    await store.close()

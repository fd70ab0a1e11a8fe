"""Collects what belongs to the installation: the running service, certificate, stores and secrets. It makes nothing."""

import asyncio
import json
import os
import ssl
import stat
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from config import ctl
from config.crash import name_error
from config.doctor.facts import Certificate, Database, Link, Redis, Service, StateDirectory, StateFile
from config.leaf import names_of
from config.schema import Settings
from config.state import certificate_files
from config.tls import build_server_context

ANSWER_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 1 << 16
MAX_CHAIN: Final = 10
MAX_FILES: Final = 1000
_BUNDLES: Final = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))


def collect_service(settings: Settings) -> tuple[Service, int]:
    """Ask the service over its socket and at `/readyz`; returns its PID, too, or 0."""
    try:
        status = ctl.ask(Path(settings.state_dir), "status", patience=ANSWER_SECONDS)["status"]
    except ctl.NoService:
        return Service(is_running=False), 0
    except ctl.Silent as error:
        return Service(is_running=True, trouble=str(error), hangs=True), 0
    except ctl.CtlError as error:
        return Service(is_running=False, trouble=str(error)), 0
    pids = frozenset((status["pid"], *(worker["pid"] for worker in status["workers"] if worker["pid"])))
    try:
        told = _readiness(settings)
    except (OSError, ValueError, LookupError):
        admin = settings.admin
        return Service(True, pids, (("admin", f"no answer at port {admin.port}"),)), status["pid"]  # noqa: FBT003
    reasons = told.get("reasons", {})
    failing = tuple((name, str(reasons.get(name, ""))) for name, holds in told["checks"].items() if not holds)
    service = Service(is_running=True, pids=pids, failing=failing, datapath=status["datapath"])
    return service, status["pid"]


def collect_certificate(settings: Settings, now: datetime) -> Certificate | None:
    """Read certificate and key; None if they are needed but have not been made yet.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds something else.
    """
    is_ours = not settings.tls.certificate_file
    file, key_file = certificate_files(settings)
    if not settings.serves_tls:
        return Certificate(str(file), False, is_ours, "", (), (), (), now)  # noqa: FBT003
    if is_ours and not file.exists():
        return None
    chain = x509.load_pem_x509_certificates(file.read_bytes())[:MAX_CHAIN]
    refusal = _refusal(file, key_file)
    links = tuple(_links(chain))
    return Certificate(str(file), True, is_ours, refusal, names_of(chain[0]), _hosts(settings), links, now)  # noqa: FBT003


def collect_database(settings: Settings) -> Database:
    """See whether the database answers and is up to date; a file that is not there is not made."""
    if "signaling" not in settings.services:
        return Database(is_needed=False)
    from sqlalchemy import make_url  # a relay has no database

    text = settings.database_url.get_secret_value()
    url = make_url(text) if text else None
    if url is not None and url.get_backend_name() != "sqlite":
        return asyncio.run(_look_at_database(text))
    file = Path(settings.state_dir) / "redconnect.sqlite3" if url is None else Path(url.database or "")
    return _look_at_file(file.absolute()) if file.exists() else Database(is_needed=True, exists=False)


def collect_redis(settings: Settings) -> Redis:
    """See whether Redis answers."""
    url = settings.signaling.redis_url.get_secret_value()
    if "signaling" not in settings.services or not url:
        return Redis(is_needed=False)
    return asyncio.run(_look_at_redis(url))


def collect_state_directory(settings: Settings, expected_owner: int | None) -> StateDirectory:
    """Look at modes, owners and room; `expected_owner` is the user of the service, None: whoever owns the directory.

    Raises:
        OSError: we may not look.
    """
    folder = Path(settings.state_dir).absolute()
    try:
        status = folder.stat()
    except FileNotFoundError:
        return StateDirectory(str(folder), exists=False)
    disk = os.statvfs(folder)
    owner = status.st_uid if expected_owner is None else expected_owner
    files = tuple(sorted(_files(folder)))
    mode = stat.S_IMODE(status.st_mode)
    return StateDirectory(str(folder), True, mode, status.st_uid, owner, disk.f_bavail * disk.f_frsize, files)  # noqa: FBT003


def _readiness(settings: Settings) -> dict[str, Any]:
    admin = settings.admin
    host = f"[{admin.address}]" if ":" in admin.address else admin.address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine: no proxy is asked
    try:
        with opener.open(f"http://{host}:{admin.port}/readyz", timeout=ANSWER_SECONDS) as answer:
            body = answer.read(MAX_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            body = error.read(MAX_ANSWER_BYTES)
    told: dict[str, Any] = json.loads(body)
    return told


def _refusal(file: Path, key_file: Path) -> str:
    """Why a service would not start with them, in the words of OpenSSL; empty if it would."""
    try:
        build_server_context(file, key_file)
    except ssl.SSLError as error:
        return error.reason or "unusable"
    return ""


def _links(chain: list[x509.Certificate]) -> Iterator[Link]:
    for number, certificate in enumerate(chain):
        if number + 1 < len(chain):
            is_signed = _is_signed_by(certificate, chain[number + 1])
        elif certificate.issuer == certificate.subject:
            is_signed = _is_signed_by(certificate, certificate)
        else:
            is_signed = any(_is_signed_by(certificate, root) for root in _roots(certificate.issuer))
        yield Link(
            certificate.subject.rfc4514_string(),
            certificate.issuer.rfc4514_string(),
            is_signed,
            certificate.not_valid_after_utc,
        )


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _roots(name: x509.Name) -> list[x509.Certificate]:
    """Certificates of authorities that this system trusts, with this name."""
    bundle = next((path for path in _BUNDLES if path.exists()), None)
    if bundle is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old roots do not keep to RFC 5280, and are not ours to mend
        return [root for root in x509.load_pem_x509_certificates(bundle.read_bytes()) if root.subject == name]


def _hosts(settings: Settings) -> tuple[str, ...]:
    signaling = settings.signaling
    host = urlsplit(signaling.public_url).hostname if signaling.https else None
    return tuple(dict.fromkeys(filter(None, (host, signaling.ice.host))))


def _look_at_file(file: Path) -> Database:
    """Open the file for reading only: the service's own store would make it, and change how it is written."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    from signaling.io.schema import is_current

    engine = create_engine(f"sqlite:///file:{quote(str(file))}?mode=ro&uri=true", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return Database(is_needed=True, is_current=is_current(connection))
    except SQLAlchemyError as error:
        return Database(is_needed=True, error=name_error(error.__cause__ or error))


async def _look_at_database(url: str) -> Database:
    from signaling.io.store import MIN_KEY_BYTES, AppointmentStore, StoreError

    store = AppointmentStore(url, bytes(MIN_KEY_BYTES))  # the key names rows, and none is looked at
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return Database(is_needed=True, is_current=await store.is_current())
    except StoreError as error:
        return Database(is_needed=True, error=str(error))
    except TimeoutError:
        return Database(is_needed=True, error=f"no answer within {ANSWER_SECONDS:g} s")
    finally:
        await store.close()


async def _look_at_redis(url: str) -> Redis:
    from redis.asyncio import Redis as Client
    from redis.exceptions import RedisError

    client = Client.from_url(url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=ANSWER_SECONDS)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        return Redis(is_needed=True, error=type(error).__name__)  # its text may show the password
    finally:
        await client.aclose()
    return Redis(is_needed=True)


def _files(folder: Path) -> Iterator[StateFile]:
    for number, path in enumerate(folder.iterdir()):
        if number == MAX_FILES:
            return
        status = path.lstat()
        yield StateFile(path.name, stat.S_IMODE(status.st_mode), status.st_uid)

"""What the service keeps on this machine: secrets, the self-signed certificate, the place of the database."""

import os
import secrets
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

import ifaddr

from config.schema import Settings
from config.self_signed import issue_certificate, needs_renewal, new_private_key
from config.tls import ReloadingContext
from stun.credentials import MIN_SECRET_BYTES

_SECRET_BYTES: Final = 48  # of entropy; as text 64 characters
_MAX_FILE_BYTES: Final = 65_536
_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class StateError(Exception):
    """The state on disk cannot be used; the message says in one line what to do."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


@dataclass(frozen=True, slots=True)
class State:
    """Secrets and files of this machine, ready for use."""

    directory: Path
    turn_secret: bytes = field(repr=False)
    locator_key: bytes = field(repr=False)
    certificate_file: Path
    private_key_file: Path
    is_self_signed: bool
    database_url: str = field(repr=False)

    def certificate(self, alpn: Sequence[str] = ()) -> ReloadingContext:
        """The TLS side of a server, for application protocols in order of preference; it follows the files.

        Raises:
            StateError: certificate or key cannot be read, or they do not fit together.
        """
        try:
            return ReloadingContext(self.certificate_file, self.private_key_file, alpn)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise StateError(
                f"cannot use {self.certificate_file} with {self.private_key_file}: {reason};"
                " check tls.certificate_file and tls.key_file"
            ) from error


def open_state(settings: Settings, now: datetime) -> State:
    """Create what is missing under `state_dir`, and check what is there.

    Secrets that the settings bring are not written to disk.

    Args:
        settings: where the state is, and what the operator brings along.
        now: aware time, for the certificate's validity.

    Raises:
        StateError: a file cannot be made, is readable by others, or holds something unfit.
    """
    directory = Path(settings.state_dir).absolute()
    try:
        return _open(directory, settings, now)
    except OSError as error:
        raise StateError(f"{error.filename or directory}: {error.strerror or type(error).__name__}") from error


def certificate_files(settings: Settings) -> tuple[Path, Path]:
    """Certificate and key: those that the operator brings along, else our own, which the first start makes."""
    if settings.tls.certificate_file:
        return Path(settings.tls.certificate_file), Path(settings.tls.key_file)
    directory = Path(settings.state_dir).absolute()
    return directory / "certificate.pem", directory / "private-key.pem"


def _open(directory: Path, settings: Settings, now: datetime) -> State:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    given = settings.secrets
    turn_secret = given.turn_secret.get_secret_value().encode() or _keep_secret(directory / "turn-secret")
    locator_key = given.locator_key.get_secret_value().encode() or _keep_secret(directory / "locator-key")
    is_self_signed = not settings.tls.certificate_file
    certificate_file, key_file = certificate_files(settings)
    if is_self_signed:
        _keep_certificate(certificate_file, key_file, now)
    default_url = f"sqlite+aiosqlite:///{directory / 'redconnect.sqlite3'}"  # the store makes it, with mode 0600
    database_url = settings.database_url.get_secret_value() or default_url
    state = State(directory, turn_secret, locator_key, certificate_file, key_file, is_self_signed, database_url)
    state.certificate()  # an unfit certificate is told now, and not at the first handshake
    return state


def _keep_secret(path: Path) -> bytes:
    """Read a secret, after drawing it if it is not there yet."""
    _create(path, secrets.token_urlsafe(_SECRET_BYTES).encode() + b"\n")
    secret = read_private(path).strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise StateError(
            f"{path} holds {len(secret)} bytes, fewer than {MIN_SECRET_BYTES}; remove it to have a new one drawn"
        )
    return secret


def _keep_certificate(certificate_file: Path, key_file: Path, now: datetime) -> None:
    """Make key and certificate if they are missing, and renew a certificate of our own that ends soon."""
    _create(key_file, new_private_key())
    key = read_private(key_file)
    try:
        if not certificate_file.exists() or needs_renewal(certificate_file.read_bytes(), key, now):
            _replace(certificate_file, issue_certificate(key, _own_names(), now))
    except ValueError as error:
        raise StateError(
            f"{certificate_file} or {key_file} is not usable ({error}); remove both to have new ones made"
        ) from error


def _own_names() -> Iterator[str]:
    yield from ("localhost", "127.0.0.1", "::1", socket.gethostname())
    for adapter in ifaddr.get_adapters():
        for address in adapter.ips:
            yield address.ip if isinstance(address.ip, str) else address.ip[0]


def _create(path: Path, data: bytes) -> None:
    """Create a file with mode 0600, whole or not at all; one that exists is left as it is."""
    if path.exists():
        return
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)  # fails if another process was faster: then its file is the right one
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def _replace(path: Path, data: bytes) -> None:
    """Put a file with mode 0600 in the place of another, whole or not at all."""
    _write_temporary(path, data).replace(path)


def _write_temporary(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary


def read_private(path: Path) -> bytes:
    """Read a file that nobody but its owner may read.

    Raises:
        OSError: it cannot be read.
        StateError: others may read or change it.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & _OPEN_TO_OTHERS:
            raise StateError(f"{path} can be read or changed by others (mode {mode:04o}); chmod 600 it, or draw anew")
        return file.read(_MAX_FILE_BYTES)

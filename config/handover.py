"""What a worker gets to know: settings with their secrets as JSON values, short of what no relay needs."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from config.schema import SecretSettings, Settings
from config.state import State


def encode_settings(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, secrets in the clear; the database, its key and Redis are left out."""
    secrets = SecretSettings(turn_secret=settings.secrets.turn_secret)
    signaling = settings.signaling.model_copy(update={"redis_url": SecretStr("")})
    update = {"database_url": SecretStr(""), "secrets": secrets, "signaling": signaling}
    reduced = settings.model_copy(update=update)
    revealed: dict[str, Any] = _reveal(reduced.model_dump())
    return revealed


def decode_settings(values: object) -> Settings:
    """Read what `encode_settings` wrote.

    Raises:
        ValueError: it is something else.
    """
    return Settings.model_validate(values)


def encode_state(state: State) -> dict[str, Any]:
    """What a relay needs of the state."""
    return {
        "directory": str(state.directory),
        "turn_secret": state.turn_secret.hex(),
        "certificate_file": str(state.certificate_file),
        "private_key_file": str(state.private_key_file),
        "is_self_signed": state.is_self_signed,
    }


def decode_state(values: dict[str, Any]) -> State:
    """Read what `encode_state` wrote."""
    return State(
        directory=Path(values["directory"]),
        turn_secret=bytes.fromhex(values["turn_secret"]),
        locator_key=b"",
        certificate_file=Path(values["certificate_file"]),
        private_key_file=Path(values["private_key_file"]),
        is_self_signed=values["is_self_signed"],
        database_url="",
    )


def _reveal(value: Any) -> Any:  # noqa: ANN401  # whatever settings are made of
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {key: _reveal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_reveal(inner) for inner in value]
    return value

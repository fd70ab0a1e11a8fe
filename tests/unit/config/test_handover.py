import json
from pathlib import Path

from config.handover import decode_settings, decode_state, encode_settings, encode_state
from config.schema import Settings
from config.state import State

DATABASE = "postgresql+asyncpg://user:database-password@db/redconnect"


def test_a_worker_gets_the_settings_with_their_secrets() -> None:
    settings = Settings.model_validate(
        {
            "services": ["relay"],
            "secrets": {"turn_secret": "t" * 32},
            "relay": {"workers": 2, "users": {"alice": "wonderland"}, "external_addresses": {"10.0.0.1": "192.0.2.1"}},
        }
    )
    assert decode_settings(json.loads(json.dumps(encode_settings(settings)))) == settings


def test_a_worker_never_gets_the_database_its_key_or_redis() -> None:
    values = {"secrets": {"locator_key": "l" * 32}, "signaling": {"redis_url": "redis://:redis-password@host"}}
    settings = Settings.model_validate(values).model_copy(
        update={"database_url": type(Settings().database_url)(DATABASE)}
    )
    state = State(Path("/x"), b"t" * 32, b"l" * 32, Path("/x/c.pem"), Path("/x/k.pem"), True, DATABASE)  # noqa: FBT003
    handed_over = json.dumps([encode_settings(settings), encode_state(state)])
    assert "database-password" not in handed_over
    assert "redis-password" not in handed_over
    assert "l" * 32 not in handed_over
    assert (b"l" * 32).hex() not in handed_over


def test_the_state_of_a_relay_arrives() -> None:
    state = State(Path("/x"), bytes(range(32)), b"", Path("/x/c.pem"), Path("/x/k.pem"), False, "")  # noqa: FBT003
    assert decode_state(json.loads(json.dumps(encode_state(state)))) == state

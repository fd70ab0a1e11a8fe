"""What all messages of the signaling protocol are made of: strict frozen models, and ids with a bound."""

from typing import Annotated

from pydantic import BaseModel, StringConstraints

MAX_ID_CHARACTERS = 64

OpaqueId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=MAX_ID_CHARACTERS)]


class Message(BaseModel, frozen=True, extra="forbid", strict=True, hide_input_in_errors=True):
    """One message: exactly these keys, with these types."""

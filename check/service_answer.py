"""What a service tells about itself to whoever tests the way to it: `POST /api/v1/connection-test`."""

import re
from typing import Annotated, Final, Self

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from check.plan import MAX_POINTS, RELAY_PORTS, Point, points_of_urls
from check.target import check_host
from stun.attributes import MAX_USERNAME_BYTES
from stun.credentials import Credential

PATH: Final = "/api/v1/connection-test"
MAX_ANSWER_BYTES: Final = 16_384
MAX_FINGERPRINTS: Final = 8
_FINGERPRINT: Final = r"^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ServiceAnswerError(ValueError):
    """The answer is not what a service of this kind gives."""


class ServiceAnswer(BaseModel, frozen=True, hide_input_in_errors=True):
    """A credential for one minute and for the own address, and what is documented. Unknown keys are ignored."""

    username: Annotated[str, StringConstraints(min_length=1, max_length=508)]
    credential: Annotated[str, StringConstraints(min_length=1, max_length=508)] = Field(repr=False)
    address: Annotated[str, StringConstraints(max_length=64)] = ""
    stun_host: Name
    relay_host: Name
    urls: Annotated[tuple[str, ...], Field(min_length=1, max_length=3 * MAX_POINTS)]
    certificate_sha256: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=_FINGERPRINT)], ...], Field(max_length=MAX_FINGERPRINTS)
    ] = ()
    pages_certificate_is_listed: bool = False
    relay_port_min: Port | None = None
    relay_port_max: Port | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(self.username.encode()) > MAX_USERNAME_BYTES:
            raise ValueError("username is too long")
        low, high = self.relay_ports
        if low > high:
            raise ValueError("relay_port_min lies above relay_port_max")
        check_host(self.stun_host)
        check_host(self.relay_host)
        points_of_urls(self.urls)
        return self

    @property
    def points(self) -> list[Point]:
        """Every documented port."""
        return points_of_urls(self.urls)

    @property
    def relay_ports(self) -> tuple[int, int]:
        """The relay's range; the documented one where the service names none."""
        low, high = RELAY_PORTS
        return self.relay_port_min or low, self.relay_port_max or high

    @property
    def fingerprints(self) -> frozenset[str]:
        """SHA-256 of the certificates that the service uses, in lower case without colons."""
        return frozenset(re.sub(":", "", each).lower() for each in self.certificate_sha256)

    @property
    def turn(self) -> Credential:
        """The credential for the relay."""
        return Credential(self.username, self.credential)


def read_answer(body: bytes) -> ServiceAnswer:
    """Read the body of the answer.

    Raises:
        ServiceAnswerError: it is too long, or not such an answer. The message holds nothing of it.
    """
    if len(body) > MAX_ANSWER_BYTES:
        raise ServiceAnswerError(f"more than {MAX_ANSWER_BYTES} bytes")
    try:
        return ServiceAnswer.model_validate_json(body)
    except ValidationError as error:
        raise ServiceAnswerError("not the answer of a connection test") from error

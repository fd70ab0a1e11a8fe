"""What can be wrong with bytes that claim to be RTP or RTCP."""

from enum import Enum


class ParseFault(Enum):
    """Why a parser refused; a bounded set, fit for a metric label."""

    TRUNCATED = "truncated"
    BAD_VERSION = "bad_version"
    BAD_LENGTH = "bad_length"
    BAD_PADDING = "bad_padding"
    BAD_VALUE = "bad_value"
    TOO_MANY = "too_many"


class RtpParseError(ValueError):
    """An RTP packet, header extension or payload descriptor that does not parse: its parsers raise nothing else."""

    def __init__(self, fault: ParseFault, detail: str = "") -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault


class RtcpParseError(ValueError):
    """An RTCP packet that does not parse: its parser raises nothing else."""

    def __init__(self, fault: ParseFault, detail: str = "") -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault

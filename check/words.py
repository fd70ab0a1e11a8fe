"""The words of the report: what every language has to say."""

from collections.abc import Mapping
from dataclasses import dataclass

from check.findings import Outcome, RowVerdict, SummaryCode


@dataclass(frozen=True)
class Words:
    """Texts of one language. Those with braces are filled in by `str.format`."""

    language: str
    title: str  # {host}
    possible: str  # before the verdict
    summaries: Mapping[SummaryCode, str]
    verdicts: Mapping[RowVerdict, str]
    meanings: Mapping[RowVerdict, str]  # what to do about it
    outcomes: Mapping[Outcome, str]
    looking_up: str  # {name}
    trying: str  # {done}, {all}
    port: str
    address: str
    result: str
    connect: str
    binding: str
    allocate: str
    loss: str
    round_trip: str  # p50 / p95
    jitter: str
    packet: str
    pages: str
    stun: str
    not_measured: str
    names: str
    no_address: str
    own: str
    seen_as: str  # {address}
    certificate: str
    issuer: str  # {issuer}
    days_left: str  # {days}
    expired: str
    trusted: str
    untrusted: str  # {problem}
    is_own: str
    is_not_own: str
    own_unknown: str
    range: str
    range_reached: str  # {reached}, {sampled}, {first}, {last}
    credentials: Mapping[str, str]
    service_problem: str  # {problem}
    not_allocated: str  # {cause}: TURN answers, but gives the test nothing
    control: str  # what the star at an echo means
    hint: str
    rules: str
    all_rules: str
    rules_hint: str
    source: str
    destination: str
    protocol: str
    ports: str
    direction: str
    outbound: str
    nothing_missing: str
    milliseconds: str
    seconds: str  # {seconds}
    made: str  # {time}

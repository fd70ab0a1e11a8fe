"""Who comes when, for how long, and what must hold then. Pure."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from loadtest.judgement import Threshold

Curve = tuple[tuple[float, int], ...]  # second, people from then on: in a straight line to the next

_SLOT_SECONDS: Final = 1800  # a practice begins a consultation every half hour
_TALK_SECONDS: Final = 1200  # and they take twenty minutes
_OVERRUN: Final = 4  # one in four talks is still going on when the next slot begins
# Of the practice's consultations in each slot from 8:00 to 18:00, in percent: a morning, lunch, an afternoon.
_OCCUPANCY: Final = (40, 80, 100, 100, 90, 90, 70, 40, 15, 15, 40, 70, 90, 90, 80, 70, 50, 40, 25, 10)
DAY_SECONDS: Final = _SLOT_SECONDS * len(_OCCUPANCY)

PLAIN: Final = {
    "STUN": Threshold(failure_share=0.001, p95_ms=50),
    "TURN": Threshold(failure_share=0.0, p95_ms=150),
    "MEDIA": Threshold(failure_share=0.001, p95_ms=50),
    "WS": Threshold(failure_share=0.0, p95_ms=300),
}
_CALLS: Final = ("Binding", "media client to peer over udp", "media peer to client over udp", "delete over udp")
_TALKS: Final = ("join", "pair", "relay both ways", "leave")


@dataclass(frozen=True)
class Profile:
    """One load test.

    Args:
        name: of the profile.
        people: users over time; the last instant is the end.
        shares: users of each class, relative to each other.
        residents: users who call before all others and stay until the end; they count among the people.
        call_seconds: least and most length of a call or a talk.
        pause_seconds: least and most pause before the next one.
        video: calls carry pictures, 250 packets a second in all directions more.
        transports: clients of the relay by transport, relative to each other.
        blobs: that each side of a talk says.
        thresholds: by kind of request.
        expected: rows that must be there.
        relayed_ports: that the relay has, of which it gives away 80 %; None: its default of 16,384.
        speed: times as fast as it is written here, unless somebody wants it otherwise.
        max_clients: seats that the signaling has; None: as many as anybody wants.
    """

    name: str
    people: Curve
    shares: Mapping[str, int]
    call_seconds: tuple[float, float]
    pause_seconds: tuple[float, float] = (0.5, 2.0)
    residents: int = 0
    video: bool = True
    transports: Mapping[str, int] = field(default_factory=lambda: {"udp": 7, "tcp": 1, "tls": 2})
    blobs: int = 12
    thresholds: Mapping[str, Threshold] = field(default_factory=lambda: PLAIN)
    expected: tuple[str, ...] = (*_CALLS, *_TALKS)
    relayed_ports: int | None = None
    max_clients: int | None = None
    speed: float = 1.0

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.people[-1][0]

    @property
    def most_people(self) -> int:
        """At the busiest instant."""
        return max(count for _, count in self.people)

    def people_at(self, second: float) -> int | None:
        """How many users there are then; None after the end."""
        for (begun, before), (ended, after) in zip(self.people, self.people[1:], strict=False):
            if begun <= second < ended:
                return round(before + (after - before) * (second - begun) / (ended - begun))
        return None

    def scaled(self, *, people: float = 1.0, speed: float = 1.0, seconds: float | None = None) -> "Profile":
        """The same with more people, or in less time.

        Args:
            people: times as many; residents as well. There is always one.
            speed: times as fast: all times are divided by it.
            seconds: how long it takes; the curve is stretched, calls stay as long as they are.
        """
        stretch = 1 / speed if seconds is None else seconds / self.seconds
        return dataclasses.replace(
            self,
            people=tuple((second * stretch, max(1, round(count * people))) for second, count in self.people),
            residents=round(self.residents * people),
            call_seconds=(self.call_seconds[0] / speed, self.call_seconds[1] / speed),
            pause_seconds=(self.pause_seconds[0] / speed, self.pause_seconds[1] / speed),
        )

    def only(self, user: str) -> "Profile":
        """The same people, all of one class: what they cost is then what this class costs."""
        rows = {"Prober": _CALLS[:1], "Caller": _CALLS[1:], "Talker": _TALKS}[user]
        return dataclasses.replace(self, shares={user: 1}, residents=0, expected=rows)


def _practice_day(talks: int) -> Curve:
    """Ten hours in which calls come in waves: everybody at the beginning of a slot, a few stragglers at its end."""
    points: list[tuple[float, int]] = []
    for number, percent in enumerate(_OCCUPANCY):
        busy = max(1, talks * percent // 100)
        begun = number * _SLOT_SECONDS
        points += [
            (begun, max(1, busy // _OVERRUN)),
            (begun + 60, busy),
            (begun + _TALK_SECONDS, busy),
            (begun + _SLOT_SECONDS - 120, max(1, busy // _OVERRUN)),
        ]
    return (*points, (DAY_SECONDS, 1))


SMOKE: Final = Profile(
    name="smoke",
    people=((0, 2), (3, 10), (50, 10)),
    shares={"Prober": 1, "Caller": 6, "Talker": 3},
    call_seconds=(5, 9),
)
DAY: Final = Profile(
    name="day",
    people=_practice_day(24),
    shares={"Prober": 1, "Caller": 6, "Talker": 5},
    call_seconds=(_TALK_SECONDS / 2, _TALK_SECONDS),
    pause_seconds=(60, 300),
    speed=120,
)
STORM: Final = Profile(
    name="storm",
    # Four have been talking for a while; at second 12 everybody comes, and most of them at once.
    people=((0, 4), (12, 4), (12.5, 94), (60, 94), (61, 4), (75, 4)),
    shares={"Prober": 1, "Caller": 4, "Talker": 4},
    residents=4,
    call_seconds=(4, 7),
    pause_seconds=(1, 3),
    video=False,
    thresholds={
        **PLAIN,
        "RUNNING": PLAIN["MEDIA"],  # unharmed
        "TURN": Threshold(failure_share=0.0, p95_ms=1000),
        "WS": Threshold(failure_share=0.0, p95_ms=3000),
        "REFUSED": Threshold(failure_share=0.0, p95_ms=3000),  # fails: without a code, or without a time to come again
        "WAITED": Threshold(failure_share=0.0, p95_ms=60_000),
    },
    expected=(
        *_CALLS,
        *_TALKS,
        "running media client to peer over udp",
        "running media peer to client over udp",
        "allocate: 508",
        "join: overload, come again",
        "until seated",
        "until allocated",
    ),
    # Smaller than the crowd: 32 allocations and 50 seats.
    relayed_ports=40,
    max_clients=50,
)
SOAK: Final = Profile(
    name="soak",
    people=((0, 1), (30, 20), (4 * 3600, 20)),
    shares={"Prober": 1, "Caller": 6, "Talker": 5},
    call_seconds=(300, 900),
    pause_seconds=(5, 30),
)
PROFILES: Final = {profile.name: profile for profile in (SMOKE, DAY, STORM, SOAK)}

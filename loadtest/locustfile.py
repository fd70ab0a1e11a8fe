"""People who use a relay and a signaling endpoint at the same time, for Locust.

    python -m loadtest --profile smoke                       # with a service of its own, on loopback
    locust -f loadtest/locustfile.py --headless --load-profile smoke --target target.json --html report.html

`loadtest/README.md` says what stands in the target. Locust puts gevent's sockets and clocks in place before it loads
this, so whoever waits lets the others run.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

import gevent  # type: ignore[import-untyped]
import locust.stats
from locust import LoadTestShape, User, events
from locust.env import Environment
from locust.stats import StatsEntry

from loadtest.judgement import Row, Verdict, breaches, doubts, verdict
from loadtest.profiles import PROFILES
from loadtest.stage import GENERATOR, Stage, Target
from loadtest.users import Caller, Prober, Resident, Talker

USERS: Final[tuple[type[User], ...]] = (Caller, Prober, Resident, Talker)
FINE_MS: Final = 10.0  # below this, latencies are kept to a tenth of a millisecond; Locust keeps whole ones
_SPAWN_PER_PERSON: Final = 2.0  # a second: everybody who is to come may come within half a second


class ProfileShape(LoadTestShape):
    """As many people as the profile says."""

    def tick(self) -> tuple[int, float] | None:
        """How many there are to be now, and how many may come in a second."""
        stage: Stage = self.runner.environment.stage  # type: ignore[union-attr]  # put there below
        people = stage.profile.people_at(self.get_run_time())  # type: ignore[no-untyped-call]  # Locust's
        return None if people is None else (people, stage.profile.most_people * _SPAWN_PER_PERSON)


def _bucket(response_time: float) -> float:
    return round(response_time, 1) if response_time < FINE_MS else _locusts_bucket(response_time)


def _add_arguments(parser: ArgumentParser, **_: Any) -> None:  # noqa: ANN401 - Locust's
    parser.add_argument("--load-profile", choices=PROFILES, default="smoke", help="who comes when")
    parser.add_argument("--people", type=float, default=1.0, help="times as many people as the profile has")
    parser.add_argument("--speed", type=float, default=0.0, help="times as fast; 0: as the profile wants")
    parser.add_argument("--seconds", type=float, default=0.0, help="for how long; 0: as long as the profile takes")
    parser.add_argument("--only", choices=("Prober", "Caller", "Talker"), help="users of one class only")
    parser.add_argument("--judge", choices=("all", "failures"), default="all", help="what thresholds hold for")
    parser.add_argument("--target", type=Path, default=Path("target.json"), help="the service, as JSON")
    parser.add_argument("--result", type=Path, help="file for the figures, as JSON")


def _prepare(environment: Environment, **_: Any) -> None:  # noqa: ANN401 - Locust's
    options = environment.parsed_options
    if options is None:
        raise SystemExit("a load test needs a command line")
    profile = PROFILES[options.load_profile]
    profile = profile.scaled(
        people=options.people, speed=options.speed or profile.speed, seconds=options.seconds or None
    )
    if options.only:
        profile = profile.only(options.only)
    target = Target.read(options.target)
    if len(target.pairs) < profile.most_people:
        raise SystemExit(f"{len(target.pairs)} pairs are too few for {profile.most_people} people")
    environment.stage = Stage(environment, target, profile)  # type: ignore[attr-defined]  # what users share
    Resident.fixed_count = profile.residents
    for user in USERS:
        user.weight = profile.shares.get(user.__name__, 0)
    environment.user_classes = [user for user in USERS if user.weight or user.fixed_count]


def _watch(environment: Environment, **_: Any) -> None:  # noqa: ANN401 - Locust's
    stage: Stage = environment.stage  # type: ignore[attr-defined]
    watching = gevent.spawn(stage.watch_generator)
    environment.events.test_stop.add_listener(lambda **_: watching.kill())  # type: ignore[no-untyped-call]


def _judge(environment: Environment, **_: Any) -> None:  # noqa: ANN401 - Locust's
    """Say what was not as it must be, and set the exit status."""
    options = environment.parsed_options
    stage: Stage = environment.stage  # type: ignore[attr-defined]
    latency = options is None or options.judge == "all"
    rows = [_row(entry) for _, entry in sorted(environment.stats.entries.items()) if entry.method != GENERATOR]
    found = breaches(rows, stage.profile.thresholds, stage.profile.expected, latency=latency)
    generator = stage.generator()
    doubted = doubts(generator)
    environment.process_exit_code = verdict(found, doubted, latency=latency)
    for sentence in (*found, *doubted):
        print(sentence, file=sys.stderr)
    if options is not None and options.result:
        result = {
            "verdict": Verdict(environment.process_exit_code).name,
            "breaches": found,
            "doubts": doubted,
            "generator": generator._asdict(),
            "rows": [row._asdict() for row in rows],
        }
        options.result.write_text(json.dumps(result, indent=1))


def _row(entry: StatsEntry) -> Row:
    p50, p95, p99 = (float(entry.get_response_time_percentile(share)) for share in (0.5, 0.95, 0.99))
    return Row(entry.method, entry.name, entry.num_requests, entry.num_failures, p50, p95, p99)


_locusts_bucket = locust.stats.bucket_response_time
locust.stats.bucket_response_time = _bucket  # type: ignore[assignment]  # as its documentation says
events.init_command_line_parser.add_listener(_add_arguments)  # type: ignore[no-untyped-call]  # Locust's
events.init.add_listener(_prepare)  # type: ignore[no-untyped-call]  # Locust's
events.test_start.add_listener(_watch)  # type: ignore[no-untyped-call]  # Locust's
events.quitting.add_listener(_judge)  # type: ignore[no-untyped-call]  # Locust's

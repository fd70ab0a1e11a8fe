"""Who comes when."""

import pytest

from loadtest.profiles import DAY, DAY_SECONDS, PROFILES, SMOKE, STORM, Profile

HOUR = 3600


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_has_somebody_until_its_end_and_nobody_after(profile: Profile) -> None:
    assert all(profile.people_at(second) for second in range(int(profile.seconds)))
    assert profile.people_at(profile.seconds) is None


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_instants_of_a_profile_are_in_order(profile: Profile) -> None:
    seconds = [second for second, _ in profile.people]
    assert seconds == sorted(set(seconds))
    assert seconds[0] == 0


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_row_of_a_plain_run_is_held_to_something(profile: Profile) -> None:
    assert {"STUN", "TURN", "MEDIA", "WS"} <= profile.thresholds.keys()


def test_people_between_two_instants_lie_on_a_straight_line() -> None:
    profile = SMOKE.scaled()
    assert profile.people_at(0) == 2
    assert profile.people_at(1.5) == 6
    assert profile.people_at(49.9) == 10


def test_a_smoke_test_takes_less_than_a_minute() -> None:
    assert SMOKE.seconds < 60


def test_a_practice_day_has_waves_and_a_lunch_break() -> None:
    def people(hour: float) -> int:
        count = DAY.people_at(hour * HOUR)
        assert count is not None
        return count

    assert DAY.seconds == DAY_SECONDS == 10 * HOUR
    assert people(1.2) == DAY.most_people  # in the middle of a slot, from 9:00 on
    assert people(1.47) < people(1.2) / 3  # shortly before the next one
    assert people(4.2) < people(1.2) / 3  # shortly after twelve


def test_a_faster_day_has_the_same_people_in_shorter_calls() -> None:
    fast = DAY.scaled(speed=DAY.speed)
    assert fast.seconds == pytest.approx(300)
    assert fast.most_people == DAY.most_people
    assert fast.call_seconds == pytest.approx((5, 10))


def test_a_longer_run_has_the_same_calls() -> None:
    longer = SMOKE.scaled(seconds=2 * SMOKE.seconds)
    assert longer.seconds == 2 * SMOKE.seconds
    assert longer.call_seconds == SMOKE.call_seconds


def test_more_people_are_more_at_every_instant_and_never_nobody() -> None:
    assert STORM.scaled(people=2).most_people == 2 * STORM.most_people
    assert STORM.scaled(people=2).residents == 2 * STORM.residents
    assert SMOKE.scaled(people=0.01).most_people == 1


def test_in_a_storm_more_people_come_than_there_is_room_for() -> None:
    assert STORM.relayed_ports is not None
    assert STORM.max_clients is not None
    others = STORM.most_people - STORM.residents
    callers, talkers = (others * STORM.shares[who] / sum(STORM.shares.values()) for who in ("Caller", "Talker"))
    assert callers + STORM.residents > STORM.relayed_ports * 0.8
    assert 2 * talkers > STORM.max_clients


@pytest.mark.parametrize("user", SMOKE.shares)
def test_users_of_one_class_are_expected_to_do_what_they_do_and_nothing_else(user: str) -> None:
    alone = SMOKE.only(user)
    assert dict(alone.shares) == {user: 1}
    assert set(alone.expected) < set(SMOKE.expected)

import pytest

from signaling.guess_limiter import MAX_PENDING, GuessLimiter, TooManyPending
from signaling.rate_limiter import Pace, RateExceeded

PACE = Pace(interval=6.0, burst=10)
NOW = 3_000_000.1
HOME = (b"64", b"56", b"48")


def guess(limiter: GuessLimiter, networks: tuple[bytes, ...], now: float = NOW) -> None:
    limiter.begin(networks, now)
    limiter.end(networks, now, wrong=True)


def test_the_eleventh_wrong_guess_of_an_address_waits() -> None:
    limiter = GuessLimiter(PACE)
    for _ in range(10):
        guess(limiter, (b"v4",))
    with pytest.raises(RateExceeded):
        limiter.begin((b"v4",), NOW)
    guess(limiter, (b"other",))


def test_a_56_guesses_four_times_as_often_as_an_address_and_a_48_sixteen_times() -> None:
    limiter = GuessLimiter(PACE)
    for number in range(40):
        guess(limiter, (bytes([number]), b"56", b"48"))
    with pytest.raises(RateExceeded):
        limiter.begin((b"fresh", b"56", b"48"), NOW)
    for number in range(120):
        guess(limiter, (b"x" + bytes([number]), bytes([number]), b"48"))
    with pytest.raises(RateExceeded):
        limiter.begin((b"fresh", b"fresh", b"48"), NOW)
    limiter.begin((b"fresh", b"fresh", b"fresh"), NOW)


def test_right_codes_that_are_looked_up_keep_nobody_waiting() -> None:
    limiter = GuessLimiter(PACE)
    for _ in range(MAX_PENDING):
        limiter.begin(HOME, NOW)
    with pytest.raises(TooManyPending):
        limiter.begin(HOME, NOW)
    for _ in range(MAX_PENDING):
        limiter.end(HOME, NOW, wrong=False)
    limiter.begin(HOME, NOW)
    assert limiter.next_expiry() is None


def test_guessing_in_parallel_gains_nothing_in_the_long_run() -> None:
    limiter = GuessLimiter(PACE)
    for _ in range(MAX_PENDING):
        limiter.begin((b"v4",), NOW)
    for _ in range(MAX_PENDING):
        limiter.end((b"v4",), NOW, wrong=True)
    owed = (MAX_PENDING - PACE.burst + 1) * PACE.interval
    with pytest.raises(RateExceeded):
        limiter.begin((b"v4",), NOW + owed - 1)
    limiter.begin((b"v4",), NOW + owed)


def test_a_network_is_forgotten_when_its_guesses_no_longer_count() -> None:
    limiter = GuessLimiter(PACE)
    guess(limiter, HOME)
    due = limiter.next_expiry()
    assert due is not None
    limiter.expire(due + 1000)
    assert limiter.next_expiry() is None


def test_another_pace_does_not_forget_what_is_being_looked_up() -> None:
    limiter = GuessLimiter(PACE)
    limiter.begin(HOME, NOW)
    limiter.configure(Pace(interval=1.0, burst=60))
    limiter.end(HOME, NOW, wrong=True)
    for _ in range(59):
        guess(limiter, HOME)
    with pytest.raises(RateExceeded):
        limiter.begin(HOME, NOW)

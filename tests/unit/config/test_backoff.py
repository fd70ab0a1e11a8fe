from config.backoff import Backoff


def test_who_ends_soon_again_and_again_waits_longer_and_longer_up_to_a_bound() -> None:
    backoff = Backoff()
    assert [backoff.delay(0.1) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_who_lived_long_starts_again_at_once() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay(0.1)
    assert backoff.delay(60.0) == 0
    assert backoff.delay(59.9) == 1

from sfu.keyframe_requests import (
    CALM,
    LAYER_INTERVAL,
    MAX_INTERVAL,
    PATIENCE,
    RECEIVER_INTERVAL,
    LayerKeyFrames,
    ReceiverKeyFrames,
)


def test_the_first_request_goes_at_once() -> None:
    requests = LayerKeyFrames()
    assert requests.poll(10.0) is False
    requests.want(10.0)
    assert requests.poll(10.0) is True
    assert requests.poll(20.0) is False


def test_what_is_wanted_too_early_is_asked_for_when_the_interval_is_over() -> None:
    requests = LayerKeyFrames()
    requests.want(10.0)
    requests.poll(10.0)
    requests.want(10.1)
    assert requests.poll(10.1) is False
    assert requests.poll_timeout() == 10.0 + LAYER_INTERVAL
    assert requests.poll(10.0 + LAYER_INTERVAL) is True
    assert requests.poll_timeout() is None


def test_a_key_frame_satisfies_whoever_waits() -> None:
    requests = LayerKeyFrames()
    requests.want(10.0)
    requests.poll(10.0)
    requests.want(10.1)
    requests.arrived()
    assert requests.poll_timeout() is None
    assert requests.poll(11.0) is False


def test_receivers_that_are_never_satisfied_get_fewer_key_frames() -> None:
    requests = LayerKeyFrames()
    asked = []
    for tick in range(1000):
        now = tick / 100
        requests.want(now)
        if requests.poll(now):
            asked.append(now)
            requests.arrived()
    assert asked[:PATIENCE] == [turn * LAYER_INTERVAL for turn in range(PATIENCE)]
    assert len(asked) <= PATIENCE + 10 / MAX_INTERVAL


def test_after_a_calm_time_requests_are_answered_quickly_again() -> None:
    requests = LayerKeyFrames()
    for turn in range(PATIENCE):
        requests.want(turn * MAX_INTERVAL)
        requests.poll(turn * MAX_INTERVAL)
    assert requests.interval == MAX_INTERVAL
    requests.want(PATIENCE * MAX_INTERVAL + CALM)
    assert requests.interval == LAYER_INTERVAL


def test_a_receiver_causes_one_request_a_second() -> None:
    receiver = ReceiverKeyFrames()
    assert [receiver.allow(now) for now in (0.0, 0.5, 0.99, RECEIVER_INTERVAL, 1.5)] == [
        True,
        False,
        False,
        True,
        False,
    ]

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.out_queue import MAX_MEDIA_BYTES, MAX_MEDIA_SECONDS, OutQueue


@pytest.fixture
def queue() -> OutQueue:
    return OutQueue()


def test_messages_go_before_media_and_both_in_their_order(queue: OutQueue) -> None:
    queue.put_media(b"m1", 1, 0.0)
    queue.put_message(b"s1")
    queue.put_media(b"m2", 1, 0.1)
    queue.put_message(b"s2")
    assert len(queue) == 8
    assert queue.take(0.1, 100) == b"s1s2m1m2"
    assert len(queue) == 0
    assert queue.take(0.1, 100) == b""


def test_media_that_is_older_than_200_ms_is_dropped_and_counted_by_the_message(queue: OutQueue) -> None:
    queue.put_media(b"old" * 3, 3, 1.0)
    queue.put_message(b"stun")
    queue.put_media(b"young", 1, 1.0 + MAX_MEDIA_SECONDS)
    assert queue.dropped == 0
    queue.put_media(b"new", 1, 1.001 + MAX_MEDIA_SECONDS)
    assert queue.dropped == 3
    assert queue.take(1.001 + MAX_MEDIA_SECONDS, 100) == b"stunyoungnew"


def test_media_that_has_aged_in_the_queue_is_not_sent(queue: OutQueue) -> None:
    queue.put_media(b"old", 1, 1.0)
    queue.put_message(b"stun")
    assert queue.take(10.0, 100) == b"stun"
    assert queue.dropped == 1
    assert len(queue) == 0


def test_however_young_media_has_a_bound_in_bytes(queue: OutQueue) -> None:
    piece = bytes(MAX_MEDIA_BYTES // 4)
    for number in range(6):
        queue.put_media(bytes([number]) + piece[1:], 1, 0.0)
    assert queue.dropped == 2
    assert len(queue) == MAX_MEDIA_BYTES
    assert queue.take(0.0, 1)[0] == 2


def test_a_message_is_never_cut_by_the_limit(queue: OutQueue) -> None:
    for size in (60, 50, 10, 200):
        queue.put_media(bytes([size]) * size, 1, 0.0)
    assert [len(queue.take(0.0, 100)) for _ in range(4)] == [60, 60, 200, 0]


class Queue(RuleBasedStateMachine):
    """Against the plainest model: a list of messages and a list of media with its age."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = OutQueue()
        self.now = 0.0
        self.count = 0
        self.messages: deque[bytes] = deque()
        self.media: deque[tuple[float, int, bytes]] = deque()
        self.dropped = 0

    def _new(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(4) + bytes(size)

    def _forget_the_old(self) -> None:
        while self.media and self.media[0][0] < self.now - MAX_MEDIA_SECONDS:
            self.dropped += self.media.popleft()[1]

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.15, 0.3]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(size=st.integers(0, 2000))
    def put_message(self, size: int) -> None:
        self.messages.append(self._new(size))
        self.queue.put_message(self.messages[-1])

    @rule(size=st.integers(0, 2000), count=st.integers(1, 9))
    def put_media(self, size: int, count: int) -> None:
        self.media.append((self.now, count, self._new(size)))
        self.queue.put_media(self.media[-1][2], count, self.now)
        self._forget_the_old()

    @rule(limit=st.integers(1, 5000))
    def take(self, limit: int) -> None:
        self._forget_the_old()
        taken = self.queue.take(self.now, limit)
        expected = b""
        while self.messages or self.media:
            following = self.messages[0] if self.messages else self.media[0][2]
            if expected and len(expected) + len(following) > limit:
                break
            expected += following
            if self.messages:
                self.messages.popleft()
            else:
                self.media.popleft()
        assert taken == expected

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.dropped == self.dropped
        assert self.queue.message_bytes == sum(map(len, self.messages))
        assert len(self.queue) == self.queue.message_bytes + sum(len(data) for _, _, data in self.media)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=30)

"""Finding out whether a path carries more than is sent: short clusters of packets at a higher rate.

Modelled on libwebrtc (the draft has no probes), with two differences. Clusters follow one another, each on the result
of the last, instead of two at once at the start: three times the start is the most that an unknown path has to bear.
And where loss holds the estimate before any queue has grown, a probe comes every ten seconds even if the application
is not limited: else random loss on a wide path would keep the estimate where it happened to be.
"""

from typing import Final

from sfu.send_log import SentPacket


class ProbeCluster:
    """A cluster that is being sent, or whose result is awaited."""

    MIN_SECONDS: Final = 0.03
    MIN_PACKETS: Final = 5
    MAX_PACKET: Final = 1200  # bytes
    MIN_PACKET: Final = 200
    PACKET_SECONDS: Final = 0.015  # at low rates packets are smaller, so that they come no further apart
    MIN_RECEIVED: Final = 0.8  # of packets and bytes: with less nothing is said
    SATURATED: Final = 0.9  # received at less than this part of the rate of sending: the path was full,
    UTILISATION: Final = 0.95  # and is then used to this part
    MAX_RATIO: Final = 2.0  # received so much faster than sent: packets were held up and let go together

    def __init__(self, number: int, rate: float, now: float) -> None:
        """`rate` in bits per second."""
        self.number = number
        self.rate = rate
        self.begun_at = now
        self.packet_size = int(min(max(rate * self.PACKET_SECONDS / 8, self.MIN_PACKET), self.MAX_PACKET))
        self._bytes_wanted = max(rate * self.MIN_SECONDS / 8, self.MIN_PACKETS * self.packet_size)
        self._paced = 0  # bytes asked for, and of media that left meanwhile
        self._sent = self._sent_bytes = self._received = self._received_bytes = self._lost = 0
        self._first_sent_at = self._last_sent_at = self._first_received_at = self._last_received_at = 0.0
        self._last_sent_size = self._first_received_size = 0

    @property
    def is_sent(self) -> bool:
        """Whether the cluster needs no further packet."""
        return self._paced >= self._bytes_wanted

    @property
    def is_judged(self) -> bool:
        """Whether it is known of each of its packets what became of it."""
        return self.is_sent and self._sent > 0 and self._received + self._lost >= self._sent

    @property
    def next_at(self) -> float:
        """When the next packet is due."""
        return self.begun_at + self._paced * 8 / self.rate

    def poll(self, now: float) -> int | None:
        """The size in bytes of a packet that is due, which must then be sent; None when none is."""
        if self.is_sent or now < self.next_at:
            return None
        self._paced += self.packet_size
        return self.packet_size

    def send(self, size: int, now: float, *, asked: bool) -> None:
        """Note a packet of the cluster: one that was asked for, or media that left meanwhile and counts as well."""
        if not self._sent:
            self._first_sent_at = now
        if not asked:
            self._paced += size
        self._sent += 1
        self._sent_bytes += size
        self._last_sent_at = now
        self._last_sent_size = size

    def receive(self, result: SentPacket) -> None:
        """Note what became of a packet of the cluster."""
        if result.received_at is None:
            self._lost += 1
            return
        self._lost -= result.was_lost
        if not self._received or result.received_at < self._first_received_at:
            self._first_received_at = result.received_at
            self._first_received_size = result.size
        self._last_received_at = (
            max(self._last_received_at, result.received_at) if self._received else result.received_at
        )
        self._received += 1
        self._received_bytes += result.size

    def measure(self) -> float | None:
        """What the path carried, bits per second, at most the rate of the cluster; None if nothing can be said."""
        sent_seconds = self._last_sent_at - self._first_sent_at
        received_seconds = self._last_received_at - self._first_received_at
        if (
            self._received < max(self.MIN_RECEIVED * self._sent, 2)
            or self._received_bytes < self.MIN_RECEIVED * self._sent_bytes
            or sent_seconds <= 0
            or received_seconds <= 0
        ):
            return None
        sent_rate = (self._sent_bytes - self._last_sent_size) * 8 / sent_seconds
        received_rate = (self._received_bytes - self._first_received_size) * 8 / received_seconds
        if received_rate > self.MAX_RATIO * sent_rate:
            return None
        measured = min(sent_rate, received_rate)
        if received_rate < self.SATURATED * sent_rate:
            measured = self.UTILISATION * received_rate
        return min(measured, self.rate)


class Prober:
    """When a cluster begins and how fast it is. At most one is under way."""

    INITIAL_FACTOR: Final = 3.0  # times the estimate
    FURTHER_FACTOR: Final = 2.0  # at once, when the last cluster came through and won something, or told nothing
    MAX_RETRIES: Final = 2  # in a row of clusters of which nothing was learnt
    LIMITED_FACTOR: Final = 2.0  # while the application sends little
    STEADY_FACTOR: Final = 1.5
    RECOVERY_FACTOR: Final = 3.0  # after a large drop, which may have been somebody else's short burst, at most,
    RECOVERY_TARGET: Final = 0.85  # and no more than this part of the estimate before
    LARGE_DROP: Final = 0.66  # to this part of the estimate before
    RECOVERY_INTERVAL: Final = 3.0
    LIMITED_INTERVAL: Final = 5.0  # seconds since the last cluster, and since the estimate was last lowered
    STEADY_INTERVAL: Final = 10.0
    CAME_THROUGH: Final = 0.7  # of the rate of the cluster
    RESULT_SECONDS: Final = 1.0  # how long a result is awaited
    ECHO_SECONDS: Final = 2.0  # since its beginning, while a queue may come from the cluster itself
    WORTH_WHILE: Final = 1.1  # times the estimate: nothing is probed for less

    def __init__(self) -> None:
        self.cluster: ProbeCluster | None = None
        self.begun = 0  # clusters so far
        self._factor: float | None = self.INITIAL_FACTOR  # of a cluster that is due at once
        self._begun_at = float("-inf")
        self._estimate = 0.0  # when the last cluster began
        self._retries = 0
        self._since = 0.0  # the last cluster or decrease
        self._before_drop = 0.0  # the highest estimate that was lowered since the last cluster

    def lowered(self, before: float, now: float) -> None:
        """Note that the estimate was lowered from so many bits per second: nothing is probed for some time."""
        self._factor = None
        self._since = now
        self._before_drop = max(self._before_drop, before)

    def _plan(self, estimate: float, *, limited: bool, settled: bool) -> tuple[float, float]:
        """The rate of the next cluster, if more than the estimate is wanted, and when it may begin."""
        if self._factor is not None:
            return self._factor * estimate, self._since
        if estimate < self.LARGE_DROP * self._before_drop:
            rate = min(self.RECOVERY_FACTOR * estimate, self.RECOVERY_TARGET * self._before_drop)
            return rate, self._since + self.RECOVERY_INTERVAL
        if limited:
            return self.LIMITED_FACTOR * estimate, self._since + self.LIMITED_INTERVAL
        return self.STEADY_FACTOR * estimate, float("inf") if settled else self._since + self.STEADY_INTERVAL

    def begin(self, estimate: float, goal: float, now: float, *, limited: bool, settled: bool) -> None:
        """Begin a cluster if one is due.

        Args:
            estimate: bits per second.
            goal: what there is use for at the most, in bits per second.
            now: monotonic time, in seconds.
            limited: whether the application sends clearly less than the estimate.
            settled: whether it is known where queues begin to grow; what is sent then finds out what more there is.
        """
        rate, due_at = self._plan(estimate, limited=limited, settled=settled)
        if self.cluster is not None or goal < self.WORTH_WHILE * estimate or now < due_at:
            return
        self.begun += 1
        self._begun_at = now
        self._estimate = estimate
        self.cluster = ProbeCluster(self.begun, min(rate, goal), now)
        self._factor = None
        self._before_drop = 0.0
        self._since = now

    def echoes(self, now: float) -> bool:
        """Whether a queue may still come from the last cluster."""
        return now < self._begun_at + self.ECHO_SECONDS

    def receive(self, result: SentPacket) -> None:
        """Note what became of a packet of a cluster; of an earlier one it is ignored."""
        if self.cluster is not None and result.cluster == self.cluster.number:
            self.cluster.receive(result)

    def finish(self, now: float) -> float | None:
        """The result of a cluster that is judged or has waited long enough, bits per second; None without one."""
        cluster = self.cluster
        if cluster is None or not (cluster.is_judged or now >= cluster.begun_at + self.RESULT_SECONDS):
            return None
        self.cluster = None
        measured = cluster.measure()
        if measured is None:  # feedback was lost, or packets were held up
            if self._retries < self.MAX_RETRIES:
                self._retries += 1
                self._factor = self.FURTHER_FACTOR
        else:
            self._retries = 0
            if measured >= max(self.CAME_THROUGH * cluster.rate, self.WORTH_WHILE * self._estimate):
                self._factor = self.FURTHER_FACTOR
        return measured

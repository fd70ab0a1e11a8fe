"""What the path to a subscriber carries: the sending half of congestion control.

Delay (sfu/delay_trend.py, sfu/rate_control.py) and loss (sfu/loss_control.py) each allow a rate; the estimate is the
lower of the two, and probes (sfu/probing.py) find more than is sent. docs/sfu.md says what was taken from
draft-ietf-rmcat-gcc-02 and what from libwebrtc.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sfu.delay_trend import DelayTrend, PathUse
from sfu.loss_control import LossControl
from sfu.probing import Prober
from sfu.rate_control import RateControl
from sfu.send_log import SendLog, SentPacket
from sfu.throughput import AcknowledgedRate, ApplicationLimit
from sfu.transport_feedback import decode_transport_feedback


class BandwidthBounds(NamedTuple):
    """Where an estimate begins, and between what it stays; bits per second."""

    start: float = 300_000.0
    floor: float = 30_000.0
    ceiling: float = 10_000_000.0


class BandwidthEstimator:
    """Estimates what one transport carries. Told of each packet that leaves, and of the feedback about it.

    The shell asks `poll_probe` until it gives None, and calls `handle_timeout` at `poll_timeout`; ten times a second is
    enough, but the packets of a probe want to leave when they are due.
    """

    WANTED_MARGIN: Final = 1.25  # probes go so far beyond what is wanted: a layer is raised when there is room to spare
    SILENCE_SECONDS: Final = 1.0  # without feedback, although something was sent: the path may have gone
    SILENCE_INTERVAL: Final = 0.5  # then the estimate is lowered so often,
    SILENCE_DECREASE: Final = 0.8  # to this part
    START_ROUND_TRIP: Final = 0.2  # seconds, until one is measured
    CHECK_INTERVAL: Final = 0.1  # seconds between looks whether a probe may begin
    OWN_PAUSE: Final = 0.3  # seconds between two looks: we have been short of time, and feedback may lie unread

    def __init__(self, bounds: BandwidthBounds = BandwidthBounds(), first_sequence: int = 0) -> None:  # noqa: B008  # immutable
        self._bounds = bounds
        self._log = SendLog(first_sequence)
        self._trend = DelayTrend()
        self._rate = RateControl(bounds.start, bounds.floor, bounds.ceiling)
        self._loss = LossControl(bounds.start, bounds.floor)
        self._acknowledged = AcknowledgedRate()
        self._limit = ApplicationLimit()
        self._prober = Prober()
        self._wanted = 0.0
        self._round_trip = self.START_ROUND_TRIP
        self._careful_at = float("inf")  # when the estimate is lowered because no feedback comes
        self._checked_at: float | None = None

    @property
    def bits_per_second(self) -> float:
        """The estimate: what may be sent in all, retransmissions and audio included."""
        return min(self._rate.rate, self._loss.rate)

    @property
    def acknowledged(self) -> float | None:
        """What arrives, in bits per second; None before that is known."""
        return self._acknowledged.bits_per_second

    @property
    def fraction_lost(self) -> float:
        """Of the packets of the last second or so, 0 to 1."""
        return self._loss.fraction_lost

    @property
    def round_trip(self) -> float:
        """Seconds from a packet to the feedback about it, the receiver's waiting included."""
        return self._round_trip

    @property
    def application_limited(self) -> bool:
        """Whether clearly less is sent than the path is thought to carry."""
        return self._limit.limited

    @property
    def probes(self) -> int:
        """Clusters that were begun."""
        return self._prober.begun

    def want(self, bits_per_second: float) -> None:
        """Say how much there would be use for; without more to win nothing is probed."""
        self._wanted = bits_per_second

    def send(self, size: int, now: float, *, probe: bool = False) -> int:
        """Note that a packet leaves; gives its transport-wide sequence number, 16 bit.

        Args:
            size: bytes on the wire, without IP and UDP.
            now: monotonic time, in seconds.
            probe: whether it is one that `poll_probe` asked for.
        """
        if not self._log.awaits_feedback:
            self._careful_at = now + self.SILENCE_SECONDS
        self._limit.send(size)
        cluster = self._prober.cluster
        if cluster is None or (cluster.is_sent and not probe):
            return self._log.send(size, now)
        cluster.send(size, now, asked=probe)
        return self._log.send(size, now, cluster.number)

    @property
    def is_plain(self) -> bool:
        """Whether no probe is under way: packets that leave now are merely numbered and noted."""
        cluster = self._prober.cluster
        return cluster is None or cluster.is_sent

    def send_many(self, sizes: Sequence[int], instants: Sequence[float]) -> None:
        """Note packets that have left one after the other, as `send` does while `is_plain`.

        Args:
            sizes: bytes on the wire of each, without IP and UDP.
            instants: when each left: monotonic time, in seconds.
        """
        log = self._log
        if instants and not log.awaits_feedback:
            self._careful_at = instants[0] + self.SILENCE_SECONDS
        self._limit.send(sum(sizes))
        for size, instant in zip(sizes, instants, strict=True):
            log.send(size, instant)

    def poll_probe(self, now: float) -> int | None:
        """The bytes of a packet of padding or retransmission that is to be sent now for a probe; None for nothing."""
        cluster = self._prober.cluster
        return None if cluster is None else cluster.poll(now)

    def receive_feedback(self, fci: bytes, now: float) -> None:
        """Take in feedback of the subscriber.

        Raises:
            TransportFeedbackError: it does not parse; nothing has changed then.
        """
        feedback = decode_transport_feedback(fci)
        self._careful_at = now + self.SILENCE_SECONDS
        results = self._log.acknowledge(feedback)
        if not results:
            return
        self._acknowledged.skip(self._log.skipped_bytes)
        received = self._take(results, now)
        self._limit.update(self.bits_per_second, now)
        lost = len(results) - received
        turned_up = sum(result.was_lost for result in results) - lost
        self._follow(len(results) - turned_up, lost - turned_up, now)

    def _take(self, results: Sequence[SentPacket], now: float) -> int:
        """Take in what became of each packet; gives how many were received."""
        arrived: list[tuple[float, SentPacket]] = []
        newest_at, last_sent_at, is_ordered = float("-inf"), float("-inf"), True
        for result in results:
            received_at = result.received_at
            if received_at is not None:
                is_ordered = is_ordered and received_at >= newest_at
                newest_at = received_at
                last_sent_at = max(last_sent_at, result.sent_at)
                arrived.append((received_at, result))
        if not is_ordered:
            arrived.sort(key=lambda pair: pair[0])
        for received_at, result in arrived:
            self._trend.receive(result.sent_at, received_at)
            self._acknowledged.receive(result.sent_at, received_at, result.size)
        if self._prober.cluster is not None:
            for result in results:
                if result.cluster:
                    self._prober.receive(result)
        if arrived:
            self._round_trip = max(now - last_sent_at, 0.0)
        return len(arrived)

    def _follow(self, packets: int, lost: int, now: float) -> None:
        """Let the two rates follow what is known now."""
        before = self.bits_per_second
        limited = self._limit.limited
        acknowledged = self._acknowledged.bits_per_second
        use = self._trend.use
        if use is PathUse.OVERUSE and limited and self._prober.echoes(now):
            use = PathUse.UNDERUSE  # the queue of a probe: it empties by itself, because little else is sent
        measured = self._prober.finish(now)
        lowered = False
        if measured is not None and use is not PathUse.OVERUSE:
            self._apply_probe(measured, acknowledged, now)
        else:
            lowered = self._rate.update(use, acknowledged, self._round_trip, now, limited=limited)
        lowered |= self._loss.update(packets, lost, self._rate.rate, None if limited else acknowledged, now)
        if lowered:
            self._prober.lowered(before, now)

    def _apply_probe(self, measured: float, acknowledged: float | None, now: float) -> None:
        estimate = self.bits_per_second
        if measured < estimate:
            if not self._limit.limited:
                return  # enough is sent to see by delay and loss whether the estimate is too high
            measured = max(measured, min(estimate, acknowledged or 0.0))
        if measured > estimate:
            self._acknowledged.restart(measured, now)
        self._rate.set_rate(measured, now)
        self._loss.set_rate(self._rate.rate)

    def handle_timeout(self, now: float) -> None:
        """Do what time alone brings about: begin a probe, give one up, become careful without feedback."""
        if self._checked_at is not None and now - self._checked_at >= self.OWN_PAUSE:
            self._careful_at += now - self._checked_at
        self._checked_at = now
        estimate = self.bits_per_second
        self._limit.update(estimate, now)
        if self._log.awaits_feedback and now >= self._careful_at:
            self._careful_at = now + self.SILENCE_INTERVAL
            self._rate.set_rate(estimate * self.SILENCE_DECREASE, now)
            self._prober.lowered(estimate, now)
            return
        measured = self._prober.finish(now)
        if measured is not None and self._trend.use is not PathUse.OVERUSE:
            self._apply_probe(measured, self._acknowledged.bits_per_second, now)
        if self._trend.use is not PathUse.OVERUSE:
            goal = min(self._wanted * self.WANTED_MARGIN, self._bounds.ceiling)
            limited, settled = self._limit.limited, self._rate.link.known
            self._prober.begin(self.bits_per_second, goal, now, limited=limited, settled=settled)

    def poll_timeout(self) -> float:
        """When `handle_timeout` or `poll_probe` has something to do."""
        check_at = 0.0 if self._checked_at is None else self._checked_at + self.CHECK_INTERVAL
        cluster = self._prober.cluster
        if cluster is None or cluster.is_sent:
            return check_at
        return min(check_at, cluster.next_at)

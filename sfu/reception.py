"""How one stream is received, for the reports to its sender (RFC 3550 §6.4.1, §A.3, §A.8)."""

from sfu.rtcp import ReportBlock

_MAX_LOST = (1 << 23) - 1


class Reception:
    """Counts the packets of one SSRC."""

    def __init__(self, ssrc: int, clock_rate: int) -> None:
        """Begin to count.

        Args:
            ssrc: of the stream.
            clock_rate: of its timestamps, Hz.
        """
        self._ssrc = ssrc
        self._clock_rate = clock_rate
        self._first: int | None = None
        self._highest = 0
        self._received = 0
        self._reported = (0, 0)  # expected and received at the last report
        self._jitter = 0.0  # in units of the timestamp
        self._transit: tuple[int, float] | None = None  # timestamp and arrival of the newest packet
        self._last_sender_report = 0
        self._sender_reported_at = 0.0

    def receive(self, number: int, timestamp: int, now: float) -> None:
        """Count a packet.

        Args:
            number: its extended sequence number.
            timestamp: its timestamp, 32 bits.
            now: when it came: monotonic time, in seconds.
        """
        self._received += 1
        if self._first is None:
            self._first = self._highest = number
        elif number <= self._highest:
            return
        self._highest = number
        if self._transit is not None:
            ticks = (timestamp - self._transit[0] + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            if ticks:  # packets of one picture have one timestamp, but leave one after another
                difference = abs((now - self._transit[1]) * self._clock_rate - ticks)
                self._jitter += (min(difference, self._clock_rate) - self._jitter) / 16
        self._transit = timestamp, now

    def receive_sender_report(self, ntp_timestamp: int, now: float) -> None:
        """Note a sender report: it is named in the reports, so that the sender can measure the round trip."""
        self._last_sender_report = ntp_timestamp >> 16 & 0xFFFFFFFF
        self._sender_reported_at = now

    def report(self, now: float) -> ReportBlock | None:
        """The report block for now, and from here on the next interval; None before the first packet."""
        if self._first is None:
            return None
        expected = self._highest - self._first + 1
        before, received = self._reported
        self._reported = expected, self._received
        expected_now, lost_now = expected - before, expected - before - (self._received - received)
        fraction = min(255, (lost_now << 8) // expected_now) if expected_now > 0 and lost_now > 0 else 0
        delay = round((now - self._sender_reported_at) * 65536) if self._last_sender_report else 0
        return ReportBlock(
            self._ssrc,
            fraction,
            max(-_MAX_LOST - 1, min(_MAX_LOST, expected - self._received)),
            self._highest & 0xFFFFFFFF,
            round(self._jitter),
            self._last_sender_report,
            min(delay, 0xFFFFFFFF),
        )

"""What an operator sees of the life of the service: reloads, and whether it is about to end."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class LifecycleMetrics:
    """Counts reloads and shows the drain. Every series exists from the start, so that an alert sees the first one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reloads = Counter(
            "redconnect_reloads", "Reloads by SIGHUP, by their result.", ["result"], registry=registry
        )
        self._reloaded_at = Gauge(
            "redconnect_last_successful_reload_timestamp_seconds",
            "When the settings that hold were read, in Unix time.",
            registry=registry,
        )
        self._draining = Gauge(
            "redconnect_draining", "1 from SIGTERM on, while allocations and conferences may go on.", registry=registry
        )
        self._drain_ends_at = Gauge(
            "redconnect_drain_deadline_timestamp_seconds",
            "When the drain ends, whoever is still there, in Unix time; 0 while there is none.",
            registry=registry,
        )
        for result in ("success", "failure"):
            self._reloads.labels(result)
        self._reloaded_at.set_to_current_time()

    def count_reload(self) -> None:
        """Count a reload that was taken into use, just now."""
        self._reloads.labels("success").inc()
        self._reloaded_at.set_to_current_time()

    def count_failed_reload(self) -> None:
        """Count a reload that changed nothing."""
        self._reloads.labels("failure").inc()

    def show_drain(self, ends_at: float) -> None:
        """Show that the service drains; `ends_at` is in Unix time."""
        self._draining.set(1)
        self._drain_ends_at.set(ends_at)

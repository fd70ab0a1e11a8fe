"""The dashboard of processes and host."""

from typing import Final

from tests.support.grafana_panels import FIRING, LAG, SELECTED, UP, Board, Row, graph, rate, stat

_TRACKED: Final = (
    f"redconnect_host_conntrack_entries{{{SELECTED}}} / redconnect_host_conntrack_entries_limit{{{SELECTED}}}"
)
HOST: Final = Board(
    "host",
    "redconnect: processes and host",
    "What the service uses of its machine, and what the machine loses.",
    [
        Row(
            "Is it well?",
            [
                FIRING,
                UP,
                stat(
                    "Certificate",
                    f"min(redconnect_certificate_expiry_timestamp_seconds{{{SELECTED}}} - time())",
                    "s",
                    "Until the first certificate expires.",
                    14 * 86400,
                    2 * 86400,
                ),
                stat(
                    "Descriptors",
                    f"max(process_open_fds{{{SELECTED}}} / process_max_fds{{{SELECTED}}})",
                    "percentunit",
                    "Share of the file descriptors that the process may open.",
                    0.6,
                    0.8,
                ),
                stat(
                    "Draining",
                    f"sum(redconnect_draining{{{SELECTED}}})",
                    "short",
                    "Instances that take nobody new because they are about to end.",
                    1,
                    None,
                ),
                LAG,
            ],
        ),
        Row(
            "Processes",
            [
                graph(
                    "CPU",
                    "percentunit",
                    "Share of a core, of the main process and of workers.",
                    (rate("process_cpu_seconds_total", "instance"), "{{instance}} main"),
                    (
                        rate("redconnect_worker_cpu_seconds_total", "instance", "worker"),
                        "{{instance}} relay {{worker}}",
                    ),
                    (
                        rate("redconnect_sfu_worker_cpu_seconds_total", "instance", "worker"),
                        "{{instance}} SFU {{worker}}",
                    ),
                    warning=0.8,
                ),
                graph(
                    "Memory",
                    "bytes",
                    "Resident memory.",
                    (f"process_resident_memory_bytes{{{SELECTED}}}", "{{instance}} main"),
                    (f"redconnect_worker_resident_memory_bytes{{{SELECTED}}}", "{{instance}} relay {{worker}}"),
                    (f"redconnect_sfu_worker_resident_memory_bytes{{{SELECTED}}}", "{{instance}} SFU {{worker}}"),
                ),
                graph(
                    "File descriptors",
                    "short",
                    "Open ones; an allocation and a connection are one each.",
                    (f"process_open_fds{{{SELECTED}}}", "{{instance}} main"),
                    (f"redconnect_worker_open_fds{{{SELECTED}}}", "{{instance}} relay {{worker}}"),
                    (f"redconnect_sfu_worker_open_fds{{{SELECTED}}}", "{{instance}} SFU {{worker}}"),
                ),
                graph(
                    "Event loop lag, p99",
                    "s",
                    "How much later than asked for a timer fires.",
                    (f"instance:redconnect_event_loop_lag_seconds:p99_5m{{{SELECTED}}}", "{{instance}} {{process}}"),
                    warning=0.1,
                ),
                graph(
                    "Workers",
                    "short",
                    "1 while a worker answers, and how often one was replaced in the last hour.",
                    (f"redconnect_worker_up{{{SELECTED}}}", "{{instance}} relay {{worker}}"),
                    (f"redconnect_sfu_worker_up{{{SELECTED}}}", "{{instance}} SFU {{worker}}"),
                    (
                        f"sum by (instance) (increase(redconnect_worker_restarts_total{{{SELECTED}}}[1h]))",
                        "{{instance}} replaced",
                    ),
                ),
                graph(
                    "Uptime",
                    "s",
                    "Since the start of the process.",
                    (f"time() - process_start_time_seconds{{{SELECTED}}}", "{{instance}}"),
                ),
            ],
        ),
        Row(
            "Kernel and settings",
            [
                graph(
                    "UDP lost to full buffers",
                    "pps",
                    "Of all programs. Above zero: net.core.rmem_max, or more workers.",
                    (
                        rate("redconnect_host_udp_receive_buffer_errors_total", "instance", "family"),
                        "{{instance}} in {{family}}",
                    ),
                    (
                        rate("redconnect_host_udp_send_buffer_errors_total", "instance", "family"),
                        "{{instance}} out {{family}}",
                    ),
                    warning=1,
                ),
                graph(
                    "Tracked flows",
                    "percentunit",
                    "How full the table of connection tracking is; empty where nothing is tracked.",
                    (
                        _TRACKED,
                        "{{instance}}",
                    ),
                    warning=0.85,
                ),
                graph(
                    "Reloads",
                    "short",
                    "In the last hour, by result.",
                    (
                        f"sum by (instance, result) (increase(redconnect_reloads_total{{{SELECTED}}}[1h]))",
                        "{{instance}} settings {{result}}",
                    ),
                    (
                        f"sum by (instance, result) (increase(redconnect_certificate_reloads_total{{{SELECTED}}}[1h]))",
                        "{{instance}} certificate {{result}}",
                    ),
                ),
                graph(
                    "Garbage collector",
                    "cps",
                    "Collections by generation.",
                    (rate("python_gc_collections_total", "instance", "generation"), "{{instance}} {{generation}}"),
                ),
                graph(
                    "Versions",
                    "short",
                    "1 for each version, and how its code runs.",
                    (f"count by (version, relay) (redconnect_build_info{{{SELECTED}}})", "{{version}} {{relay}}"),
                ),
            ],
        ),
    ],
)

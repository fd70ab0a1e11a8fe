"""The dashboard of conferences."""

from typing import Final

from tests.support.grafana_panels import FIRING, LAG, SELECTED, Board, Row, graph, quantile, rate, stat, sum_of

SFU: Final = Board(
    "sfu",
    "redconnect: conferences",
    "The SFU: what it forwards, what is lost, and which connections fail.",
    [
        Row(
            "Is it well?",
            [
                FIRING,
                stat("Conferences", f"sum(redconnect_sfu_rooms{{{SELECTED}}})", "short", "Now.", None, None),
                stat(
                    "People", f"sum(redconnect_sfu_members{{{SELECTED}}})", "short", "In all conferences.", None, None
                ),
                stat(
                    "Loss from publishers",
                    f"max(instance:redconnect_sfu_loss_in:ratio5m{{{SELECTED}}})",
                    "percentunit",
                    "Share of packets that were missing and asked for again; empty without a conference.",
                    0.02,
                    0.05,
                ),
                stat(
                    "Loss to subscribers",
                    f"max(instance:redconnect_sfu_loss_out:ratio5m{{{SELECTED}}})",
                    "percentunit",
                    "Share of packets that subscribers asked for again; empty without a conference.",
                    0.02,
                    0.05,
                ),
                LAG,
            ],
        ),
        Row(
            "Traffic",
            [
                graph(
                    "Conferences and people",
                    "short",
                    "Now, and how many there may be.",
                    (f"sum(redconnect_sfu_rooms{{{SELECTED}}})", "conferences"),
                    (f"sum(redconnect_sfu_members{{{SELECTED}}})", "people"),
                    (f"sum(redconnect_sfu_members_limit{{{SELECTED}}})", "people, limit"),
                ),
                graph(
                    "Forwarded",
                    "bps",
                    "RTP, in from publishers and out to subscribers.",
                    (f"8 * {rate('redconnect_sfu_bytes_total', 'direction')}", "{{direction}}"),
                ),
                graph(
                    "Packets",
                    "pps",
                    "RTP and RTCP.",
                    (rate("redconnect_sfu_packets_total", "direction"), "RTP {{direction}}"),
                    (rate("redconnect_sfu_rtcp_packets_total", "direction"), "RTCP {{direction}}"),
                ),
                graph(
                    "PeerConnections",
                    "short",
                    "By state; each person has one to publish and one to subscribe.",
                    (sum_of("redconnect_sfu_sessions", "state"), "{{state}}"),
                ),
                graph(
                    "Connections that failed",
                    "cps",
                    "By side and reason: ice is a network that does not let through.",
                    (rate("redconnect_sfu_sessions_failed_total", "side", "reason"), "{{side}} {{reason}}"),
                ),
                graph(
                    "What paths carry",
                    "bps",
                    "Estimates of all subscribers: half of them, and nineteen in twenty, have at least this.",
                    (f"8 * {quantile(0.5, 'redconnect_sfu_estimated_bandwidth_bytes_per_second')}", "half"),
                    (f"8 * {quantile(0.05, 'redconnect_sfu_estimated_bandwidth_bytes_per_second')}", "19 in 20"),
                ),
            ],
        ),
        Row(
            "Loss and repair",
            [
                graph(
                    "Loss",
                    "percentunit",
                    "From publishers and to subscribers; empty without a conference.",
                    (f"instance:redconnect_sfu_loss_in:ratio5m{{{SELECTED}}}", "in {{instance}}"),
                    (f"instance:redconnect_sfu_loss_out:ratio5m{{{SELECTED}}}", "out {{instance}}"),
                    warning=0.05,
                ),
                graph(
                    "Repair",
                    "pps",
                    "Asked of publishers again, come again, sent to subscribers again, and what was too old for that.",
                    (f"sum(rate(redconnect_sfu_packets_nacked_total{{{SELECTED}}}[$__rate_interval]))", "asked for"),
                    (f"sum(rate(redconnect_sfu_packets_repaired_total{{{SELECTED}}}[$__rate_interval]))", "repaired"),
                    (f"sum(rate(redconnect_sfu_retransmissions_total{{{SELECTED}}}[$__rate_interval]))", "sent again"),
                    (
                        f"sum(rate(redconnect_sfu_retransmissions_refused_total{{{SELECTED}}}[$__rate_interval]))",
                        "too old",
                    ),
                ),
                graph(
                    "Key frames asked for (PLI)",
                    "cps",
                    "Many mean loss that nobody repairs, or people who come and go.",
                    (f"sum(rate(redconnect_sfu_key_frame_requests_total{{{SELECTED}}}[$__rate_interval]))", "PLI"),
                ),
                graph(
                    "Packets not forwarded",
                    "pps",
                    "By the reason.",
                    (rate("redconnect_sfu_packets_dropped_total", "reason"), "{{reason}}"),
                ),
                graph(
                    "Layers",
                    "cps",
                    "Tracks that got another layer, or none; packets that try what a path carries.",
                    (f"sum(rate(redconnect_sfu_layer_switches_total{{{SELECTED}}}[$__rate_interval]))", "switches"),
                    (f"sum(rate(redconnect_sfu_probes_total{{{SELECTED}}}[$__rate_interval]))", "probes"),
                ),
                graph(
                    "At the port",
                    "pps",
                    "Datagrams, checks of ICE, and DTLS, by what became of them.",
                    (rate("redconnect_sfu_port_events_total", "event"), "{{event}}"),
                ),
            ],
        ),
        Row(
            "Workers",
            [
                graph(
                    "CPU of workers",
                    "percentunit",
                    "Share of a core; empty with one worker, which is the main process.",
                    (rate("redconnect_sfu_worker_cpu_seconds_total", "instance", "worker"), "{{instance}} {{worker}}"),
                    warning=0.8,
                ),
                graph(
                    "Workers replaced",
                    "short",
                    "In the last hour; empty with one worker.",
                    (
                        f"sum by (instance, worker) (increase(redconnect_sfu_worker_restarts_total{{{SELECTED}}}[1h]))",
                        "{{instance}} {{worker}}",
                    ),
                ),
                graph(
                    "Conferences that moved or wait",
                    "short",
                    "Because their worker ended; empty with one worker.",
                    (
                        f"sum by (cause) (increase(redconnect_sfu_rooms_moved_total{{{SELECTED}}}[1h]))",
                        "moved: {{cause}}",
                    ),
                    (f"sum(redconnect_sfu_rooms_waiting{{{SELECTED}}})", "waiting"),
                ),
            ],
        ),
    ],
)

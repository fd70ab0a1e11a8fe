"""The dashboard of STUN and TURN."""

from typing import Final

from tests.support.grafana_panels import FIRING, LAG, SELECTED, UP, Board, Row, graph, quantile, rate, stat, sum_of

RELAY: Final = Board(
    "relay",
    "redconnect: relay",
    "STUN and TURN: who is relayed, what is refused and why.",
    [
        Row(
            "Is it well?",
            [
                FIRING,
                UP,
                stat(
                    "Allocations",
                    f"sum(redconnect_relay_allocations{{{SELECTED}}}) or vector(0)",
                    "short",
                    "Live relayed addresses: about two for each consultation that is relayed.",
                    None,
                    None,
                ),
                stat(
                    "Ports in use",
                    f"max(instance:redconnect_relay_ports:ratio{{{SELECTED}}})",
                    "percentunit",
                    "Share of the relayed ports that may be taken. At 100 % allocations are refused (508).",
                    0.7,
                    0.85,
                ),
                stat(
                    "Allocations that fail",
                    f"sum(instance:redconnect_relay_allocates_failed:rate5m{{{SELECTED}}}) or vector(0)",
                    "reqps",
                    "Refused for want of capacity or quota, a second; challenges are not counted.",
                    0.01,
                    0.1,
                ),
                LAG,
            ],
        ),
        Row(
            "Traffic",
            [
                graph(
                    "Live allocations",
                    "short",
                    "Relayed addresses by what carries the client's messages.",
                    (sum_of("redconnect_relay_allocations", "transport", "family"), "{{transport}} {{family}}"),
                ),
                graph(
                    "Relayed",
                    "bps",
                    "UDP payload, by the client's transport and the direction.",
                    (
                        f"8 * {rate('redconnect_relay_payload_bytes_total', 'transport', 'direction')}",
                        "{{transport}} {{direction}}",
                    ),
                ),
                graph(
                    "Packets",
                    "pps",
                    "Relayed packets, by the client's transport and the direction.",
                    (rate("redconnect_relay_packets_total", "transport", "direction"), "{{transport}} {{direction}}"),
                ),
                graph(
                    "Who relays",
                    "pps",
                    "Relayed packets, by who relayed them: user space (plain), or the kernel (docs/forwarding.md).",
                    (
                        rate("redconnect_relay_datapath_packets_total", "datapath", "direction"),
                        "{{datapath}} {{direction}}",
                    ),
                ),
                graph(
                    "Left to user space",
                    "pps",
                    "Packets that the kernel might have relayed and did not, by the reason; stun: ordinary requests.",
                    (rate("redconnect_relay_kernel_passed_total", "reason"), "{{reason}}"),
                ),
                graph(
                    "Allocations that begin",
                    "reqps",
                    "Relayed addresses given to clients.",
                    (rate("redconnect_relay_allocations_created_total", "transport"), "{{transport}}"),
                ),
                graph(
                    "Allocations that end",
                    "reqps",
                    "Why they end: refresh_zero is a client that says goodbye.",
                    (rate("redconnect_relay_allocations_deleted_total", "ending"), "{{ending}}"),
                ),
                graph(
                    "How long allocations live",
                    "s",
                    "Of those that ended: half of them, and nineteen in twenty, lived no longer.",
                    (quantile(0.5, "redconnect_relay_allocation_duration_seconds"), "p50"),
                    (quantile(0.95, "redconnect_relay_allocation_duration_seconds"), "p95"),
                ),
            ],
        ),
        Row(
            "Answers and refusals",
            [
                graph(
                    "Time to allocate",
                    "s",
                    "From the arrival of an Allocate request to its success response.",
                    (quantile(0.5, "redconnect_relay_allocate_latency_seconds"), "p50"),
                    (quantile(0.95, "redconnect_relay_allocate_latency_seconds"), "p95"),
                    warning=0.05,
                ),
                graph(
                    "Answered",
                    "reqps",
                    "Success responses by method.",
                    (rate("redconnect_relay_requests_answered_total", "method"), "{{method}}"),
                ),
                graph(
                    "Refused",
                    "reqps",
                    "Error responses. 401 no_credentials and 438 are how every client begins.",
                    (
                        rate(
                            "redconnect_relay_requests_refused_total", "code", "cause", where='cause!="no_credentials"'
                        ),
                        "{{code}} {{cause}}",
                    ),
                ),
                graph(
                    "Credentials that fail",
                    "reqps",
                    "Why: expired, a wrong password (another secret), an unknown user.",
                    (
                        rate(
                            "redconnect_relay_requests_refused_total",
                            "cause",
                            where='code=~"401|441", cause!="no_credentials"',
                        ),
                        "{{cause}}",
                    ),
                ),
                graph(
                    "Peers denied",
                    "reqps",
                    "Which rule denies the address that a client wants to reach.",
                    (rate("redconnect_relay_requests_refused_total", "cause", where='cause=~"peer_.+"'), "{{cause}}"),
                ),
                graph(
                    "Secrets in use",
                    "reqps",
                    "Allocations by the name of the secret behind their credential; after a change the old one rests.",
                    (rate("redconnect_relay_allocations_authenticated_total", "secret"), "{{secret}}"),
                ),
            ],
        ),
        Row(
            "Bounds and losses",
            [
                graph(
                    "Port pool",
                    "short",
                    "Relayed ports that are taken, and that may be.",
                    (sum_of("redconnect_relay_ports_taken", "family"), "taken {{family}}"),
                    (sum_of("redconnect_relay_ports_limit", "family"), "limit {{family}}"),
                ),
                graph(
                    "Packets not relayed",
                    "pps",
                    "By the reason: client_slow is a client that does not read, bandwidth a bound of ours.",
                    (rate("redconnect_relay_packets_dropped_total", "reason"), "{{reason}}"),
                ),
                graph(
                    "Messages without an answer",
                    "pps",
                    "What did not parse, and what gets no answer: rate_limited are strangers who ask too often.",
                    (rate("redconnect_relay_messages_dropped_total", "reason"), "{{reason}}"),
                ),
                graph(
                    "Open connections",
                    "short",
                    "Of clients over TCP, TLS and DTLS.",
                    (sum_of("redconnect_relay_connections", "transport"), "{{transport}}"),
                ),
                graph(
                    "Connections that we closed",
                    "cps",
                    "By the reason.",
                    (rate("redconnect_relay_streams_closed_total", "reason"), "{{reason}}"),
                ),
                graph(
                    "DTLS",
                    "cps",
                    "What happens at the DTLS listeners, where there are any.",
                    (rate("redconnect_relay_dtls_events_total", "event"), "{{event}}"),
                ),
            ],
        ),
    ],
)

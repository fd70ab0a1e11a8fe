"""The dashboard of signaling."""

from typing import Final

from tests.support.grafana_panels import FIRING, LAG, SELECTED, Board, Row, graph, rate, stat, sum_of

ROOMS: Final = Board(
    "rooms",
    "redconnect: rooms",
    "Signaling: who meets, who cannot, and whether the parts that it needs are there.",
    [
        Row(
            "Is it well?",
            [
                FIRING,
                stat(
                    "Rooms",
                    f"sum(redconnect_signaling_rooms{{{SELECTED}}})",
                    "short",
                    "Rooms with somebody in them.",
                    None,
                    None,
                ),
                stat(
                    "Handshakes that failed, 24 h",
                    f'sum(increase(redconnect_signaling_pairings_total{{{SELECTED}, result="failed"}}[24h]))',
                    "short",
                    "Two could not prove their secret to each other. Many: somebody may be in the middle.",
                    1,
                    3,
                ),
                stat(
                    "Joins refused, 15 min",
                    f'sum(increase(redconnect_signaling_joins_total{{{SELECTED}, outcome!~"joined|resumed"}}[15m]))',
                    "short",
                    "For any reason; the graph below says which.",
                    50,
                    200,
                ),
                stat(
                    "Database errors, 1 h",
                    f"sum(increase(redconnect_signaling_store_failures_total{{{SELECTED}}}[1h]))",
                    "short",
                    "Failed accesses to the appointments: nobody can join while they last.",
                    1,
                    4,
                ),
                LAG,
            ],
        ),
        Row(
            "Who meets",
            [
                graph(
                    "Rooms",
                    "short",
                    "With somebody in them, by tier; and those where more than two may meet.",
                    (sum_of("redconnect_signaling_rooms", "tier"), "{{tier}}"),
                    (f"sum(redconnect_signaling_conferences{{{SELECTED}}})", "conferences"),
                ),
                graph(
                    "Clients",
                    "short",
                    "Open WebSockets, and how many there may be.",
                    (f"sum(redconnect_signaling_clients{{{SELECTED}}})", "clients"),
                    (f"sum(redconnect_signaling_clients_limit{{{SELECTED}}})", "limit"),
                ),
                graph(
                    "Seats taken or resumed",
                    "cps",
                    "By role.",
                    (rate("redconnect_signaling_seats_claimed_total", "role"), "{{role}}"),
                ),
                graph(
                    "Pairings",
                    "cps",
                    "Two clients that have proved their secret to each other, or failed to.",
                    (rate("redconnect_signaling_pairings_total", "result"), "{{result}}"),
                ),
                graph(
                    "Seats given up",
                    "cps",
                    "Why: left is a farewell, hold_expired somebody who did not come back.",
                    (rate("redconnect_signaling_claims_ended_total", "departure"), "{{departure}}"),
                ),
                graph(
                    "Conferences: let in or not",
                    "cps",
                    "Decisions of organisers.",
                    (rate("redconnect_signaling_admissions_total", "result"), "{{result}}"),
                ),
            ],
        ),
        Row(
            "Who cannot",
            [
                graph(
                    "Joins by outcome",
                    "cps",
                    "unknown_code and rate_limited together are somebody who guesses.",
                    (rate("redconnect_signaling_joins_total", "outcome"), "{{outcome}}"),
                ),
                graph(
                    "Messages refused",
                    "cps",
                    "Breaches of the protocol: a page of another version, or no page of ours.",
                    (rate("redconnect_signaling_messages_refused_total", "fault"), "{{fault}}"),
                ),
                graph(
                    "Connections",
                    "short",
                    "TCP, WebSockets included, and how many there may be.",
                    (f"sum(redconnect_signaling_connections{{{SELECTED}}})", "open"),
                    (f"sum(redconnect_signaling_connections_limit{{{SELECTED}}})", "limit"),
                ),
                graph(
                    "Connections refused, readers given up",
                    "cps",
                    "Too many of one address or in all; sockets that nobody reads from.",
                    (
                        f"sum(rate(redconnect_signaling_connections_refused_total{{{SELECTED}}}[$__rate_interval]))",
                        "refused",
                    ),
                    (
                        f"sum(rate(redconnect_signaling_slow_readers_total{{{SELECTED}}}[$__rate_interval]))",
                        "slow readers",
                    ),
                ),
                graph(
                    "API",
                    "reqps",
                    "Requests of organisers by HTTP status.",
                    (rate("redconnect_signaling_api_requests_total", "status"), "{{status}}"),
                ),
                graph(
                    "Database errors",
                    "cps",
                    "Failed accesses to the appointments.",
                    (rate("redconnect_signaling_store_failures_total", "instance"), "{{instance}}"),
                ),
            ],
        ),
        Row(
            "Between them",
            [
                graph(
                    "Sealed messages",
                    "cps",
                    "Blobs handed on, and those for somebody who was gone.",
                    (
                        f"sum(rate(redconnect_signaling_relayed_blobs_total{{{SELECTED}}}[$__rate_interval]))",
                        "handed on",
                    ),
                    (
                        f"sum(rate(redconnect_signaling_dropped_blobs_total{{{SELECTED}}}[$__rate_interval]))",
                        "dropped",
                    ),
                ),
                graph(
                    "Bus: on it",
                    "short",
                    "1 for each node that reaches Redis; empty without redis_url.",
                    (f"redconnect_signaling_bus_connected{{{SELECTED}}}", "{{instance}}"),
                ),
                graph(
                    "Bus: messages",
                    "cps",
                    "Between nodes; lost connections and what was refused.",
                    (
                        f"sum(rate(redconnect_signaling_bus_messages_sent_total{{{SELECTED}}}[$__rate_interval]))",
                        "sent",
                    ),
                    (f"sum(rate(redconnect_signaling_bus_losses_total{{{SELECTED}}}[$__rate_interval]))", "losses"),
                    (rate("redconnect_signaling_bus_refused_total", "fault"), "refused: {{fault}}"),
                ),
            ],
        ),
    ],
)

"""What the connection test decides, in a real browser but without any connection: time and answers are told to it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Participant
from tests.support.service import Service

Ask = Callable[..., Any]
Play = Callable[..., Any]

HOST = "relay.example.org"
URLS = [
    f"stun:{HOST}:3478",
    f"turn:{HOST}:3478?transport=udp",
    f"turn:{HOST}:3479?transport=udp",
    f"turn:{HOST}:3478?transport=tcp",
    f"turns:{HOST}:5349?transport=tcp",
]
TEST = {
    "username": "1:test:203.0.113.7",
    "credential": "c",
    "address": "203.0.113.7",
    "relay_host": HOST,
    "urls": URLS,
    "certificate_problem": None,
}
ROW_MS, ALL_ROWS_MS, LOOP_MS = 6_000, 18_000, 9_000
FIGURES = {"loss": 0.01, "rttMs": 40, "slowMs": 60, "bitsPerSecond": 4_000_000, "enough": True}
BEGUN: list[list[Any]] = [["begin"], ["told", TEST, 0]]


@pytest.fixture(scope="module")
def visitor(browser: Browser, service: Service) -> Iterator[Participant]:
    visitor = Participant(browser)
    visitor.open(f"{service.settings['signaling']['public_url']}/test")
    yield visitor
    visitor.close()


@pytest.fixture(scope="module")
def ask(visitor: Participant) -> Ask:
    """Calls a function of a module of the test."""
    return lambda module, function, *values: visitor.page.evaluate(
        "async ([module, name, values]) => (await import(`/js/connection_test/${module}.js`))[name](...values)",
        [module, function, list(values)],
    )


@pytest.fixture(scope="module")
def play(visitor: Participant) -> Play:
    """Tells a machine one thing after the other; returns its actions after each, its view and its deadline."""
    return lambda calls, **browser: visitor.page.evaluate(
        """async ([calls, browser]) => {
          const { TestMachine } = await import("/js/connection_test/test_machine.js");
          const machine = new TestMachine(browser);
          const actions = calls.map(([name, ...values]) => { machine[name](...values); return machine.poll(); });
          return { actions, view: machine.view(), deadline: machine.deadline };
        }""",
        [calls, browser],
    )


def states(played: Any) -> list[str]:  # noqa: ANN401 - JSON
    return [row["state"] for row in played["view"]["rows"]]


def reasons(played: Any) -> list[str | None]:  # noqa: ANN401 - JSON
    return [row["reason"] for row in played["view"]["rows"]]


# Targets


def test_every_port_of_turn_is_a_target_and_what_nobody_knows_is_none(ask: Ask) -> None:
    urls = [*URLS, "turns:[2001:db8::1]:5350?transport=tcp", "turns:x:1?transport=udp", "turn:x", "javascript:1", ""]
    targets = ask("targets", "targetsOf", urls)
    assert [(target["transport"], target["host"], target["port"]) for target in targets] == [
        ("udp", HOST, 3478),
        ("udp", HOST, 3479),
        ("tcp", HOST, 3478),
        ("tls", HOST, 5349),
        ("tls", "2001:db8::1", 5350),
    ]


# The machine


def test_two_rows_run_side_by_side_and_the_next_when_one_has_ended(play: Play) -> None:
    played = play([*BEGUN, ["relayed", 0, 120]])
    assert played["actions"] == [
        [{"do": "ask"}],
        [{"do": "probe", "row": 0}, {"do": "probe", "row": 1}],
        [{"do": "end_probe", "row": 0}, {"do": "probe", "row": 2}],
    ]
    assert states(played) == ["open", "running", "running", "waiting"]
    assert played["view"]["rows"][0]["ms"] == 120
    assert played["deadline"] == ROW_MS


def test_a_row_without_any_answer_is_closed_when_its_time_is_over_and_not_before(play: Play) -> None:
    early = play([*BEGUN, ["tick", ROW_MS - 1]])
    assert states(early)[:2] == ["running", "running"]
    late = play([*BEGUN, ["tick", ROW_MS]])
    assert states(late) == ["closed", "closed", "running", "running"]
    assert reasons(late)[:2] == ["silent", "silent"]


@pytest.mark.parametrize(
    ("code", "text", "state", "reason"),
    [
        (701, "STUN server unreachable", "closed", "refused"),
        (701, "", "closed", "refused"),
        (701, "TURN host lookup received error.", "closed", "unknown_name"),
        (403, "Forbidden", "open", "elsewhere"),
        (486, "", "open", "busy"),
        (508, "", "open", "busy"),
    ],
)
def test_an_error_closes_a_row_unless_it_came_from_the_relay(
    play: Play, code: int, text: str, state: str, reason: str
) -> None:
    played = play([*BEGUN, ["erred", 0, code, text], ["exhausted", 0, 200]])
    assert (states(played)[0], reasons(played)[0]) == (state, reason)


def test_an_error_over_one_network_of_the_device_does_not_end_a_row(play: Play) -> None:
    played = play([*BEGUN, ["erred", 0, 701, "unreachable"], ["relayed", 0, 300]])
    assert (states(played)[0], reasons(played)[0]) == ("open", None)


def test_an_answer_of_the_relay_counts_although_the_rest_of_the_row_is_silent(play: Play) -> None:
    played = play([*BEGUN, ["erred", 0, 403, ""], ["tick", ROW_MS]])
    assert reasons(played)[:2] == ["elsewhere", "silent"]


def test_what_comes_too_late_changes_nothing(play: Play) -> None:
    played = play(
        [*BEGUN, ["tick", ROW_MS], ["relayed", 0, ROW_MS + 1], ["erred", 0, 403, ""], ["exhausted", 0, 7_000]]
    )
    assert (states(played)[0], reasons(played)[0]) == ("closed", "silent")


def test_what_has_had_no_turn_when_the_time_is_over_stays_untested(play: Play) -> None:
    urls = [f"turn:{HOST}:{port}?transport=tcp" for port in range(1, 11)]
    calls: list[list[Any]] = [["begin"], ["told", {**TEST, "urls": urls}, 0]]
    played = play([*calls, *(["tick", at] for at in range(ROW_MS, ALL_ROWS_MS + 1, ROW_MS))])
    assert states(played) == ["closed"] * 6 + ["untested"] * 4
    assert played["view"]["phase"] == "done"


def test_a_port_that_the_browser_does_not_try_is_not_called_closed(play: Play) -> None:
    urls = ["turns:203.0.113.7:5349?transport=tcp", "turn:203.0.113.7:3478?transport=tcp", URLS[-1]]
    played = play([["begin"], ["told", {**TEST, "urls": urls}, 0]], tlsNeedsName=True)
    assert states(played) == ["untested", "running", "running"]
    assert reasons(played)[0] == "needs_name"
    assert states(play([["begin"], ["told", {**TEST, "urls": urls}, 0]])) == ["running", "running", "waiting"]


@pytest.mark.parametrize("problem", ["self_signed", "outside_validity", "other_name"])
@pytest.mark.parametrize(
    ("calls", "state", "reason"),
    [
        ([["erred", 0, 701, "Failed to establish connection"], ["exhausted", 0, 100]], "unclear", None),
        ([["exhausted", 0, 100]], "unclear", None),
        ([["erred", 0, 701, ""], ["tick", ROW_MS]], "unclear", None),
        ([["tick", ROW_MS]], "closed", "silent"),
        ([["erred", 0, 701, "TURN host lookup received error."], ["exhausted", 0, 100]], "closed", "unknown_name"),
        ([["relayed", 0, 100]], "open", ""),
    ],
    ids=["refused", "given up", "refused and then silent", "silent", "name unknown", "trusted all the same"],
)
def test_tls_that_fails_tells_nothing_of_the_network_if_the_certificate_has_to_be_refused(
    play: Play, problem: str, calls: list[list[Any]], state: str, reason: str | None
) -> None:
    test = {**TEST, "urls": [URLS[-1]], "certificate_problem": problem}
    played = play([["begin"], ["told", test, 0], *calls])
    assert states(played) == [state]
    assert reasons(played) == [problem if reason is None else reason or None]


def test_tls_that_fails_with_a_good_certificate_was_refused_or_broken_open(play: Play) -> None:
    told = ["told", {**TEST, "urls": [URLS[-1]]}, 0]
    played = play([["begin"], told, ["erred", 0, 701, "Failed to establish connection"], ["exhausted", 0, 100]])
    assert (states(played), reasons(played)) == (["closed"], ["tls_failed"])


def test_the_certificate_is_no_excuse_for_ports_without_tls(play: Play) -> None:
    told = ["told", {**TEST, "certificate_problem": "self_signed"}, 0]
    played = play(
        [["begin"], told, ["erred", 0, 701, ""], ["exhausted", 0, 100], ["exhausted", 1, 100], ["exhausted", 2, 100]]
    )
    assert states(played) == ["closed", "closed", "closed", "running"]


def test_the_loop_goes_through_the_first_row_that_can_be_used(play: Play) -> None:
    played = play(
        [
            *BEGUN,
            ["erred", 0, 403, ""],
            ["exhausted", 0, 100],
            ["relayed", 2, 200],
            ["exhausted", 1, 300],
            ["relayed", 3, 400],
        ]
    )
    assert played["actions"][-1] == [{"do": "end_probe", "row": 3}, {"do": "loop", "url": URLS[3]}]
    assert played["view"]["loop"]["state"] == "running"
    assert played["deadline"] == 400 + LOOP_MS


def all_open() -> list[list[Any]]:
    return [*BEGUN, *(["relayed", row, 100] for row in range(4))]


def test_what_the_loop_found_ends_the_test(play: Play) -> None:
    played = play([*all_open(), ["looped", FIGURES]])
    assert played["actions"][-1] == [{"do": "end_loop"}]
    assert (played["view"]["phase"], played["view"]["loop"]["figures"]) == ("done", FIGURES)
    assert played["deadline"] is None


def test_a_loop_that_does_not_end_is_ended(play: Play) -> None:
    played = play([*all_open(), ["tick", 100 + LOOP_MS]])
    assert (played["view"]["phase"], played["view"]["loop"]["state"]) == ("done", "failed")
    again = play([*all_open(), ["tick", 100 + LOOP_MS], ["looped", FIGURES], ["loopFailed"]])
    assert again["view"]["loop"]["state"] == "failed"


def test_the_longest_test_ends_within_half_a_minute(visitor: Participant) -> None:
    parts = visitor.page.evaluate(
        """async () => {
          const [{ ASK_MS }, { ALL_ROWS_MS, LOOP_MS }] = await Promise.all(
            ["service", "test_machine"].map((name) => import(`/js/connection_test/${name}.js`)));
          return [ASK_MS, ALL_ROWS_MS, LOOP_MS];
        }"""
    )
    assert parts[1:] == [ALL_ROWS_MS, LOOP_MS]
    assert sum(parts) <= 30_000


def test_without_any_usable_row_there_is_no_loop(play: Play) -> None:
    played = play([*BEGUN, ["tick", ROW_MS], ["tick", 2 * ROW_MS]])
    assert (played["view"]["phase"], played["view"]["loop"]["state"]) == ("done", "skipped")


def test_a_test_that_cannot_begin_says_why_and_can_be_begun_again(play: Play) -> None:
    refused = play([["begin"], ["refused", "rate_limited", 6]])
    assert refused["view"]["problem"] == {"code": "rate_limited", "seconds": 6}
    empty = play([["begin"], ["told", {**TEST, "urls": ["stun:x:1"]}, 0]])
    assert empty["view"]["problem"]["code"] == "no_relay"
    again = play([["begin"], ["refused", "unreachable"], *BEGUN])
    assert (again["view"]["problem"], again["view"]["phase"]) == (None, "ports")


def test_whoever_begins_anew_ends_what_runs(play: Play) -> None:
    while_rows_run = play([*BEGUN, ["begin"]])
    assert while_rows_run["actions"][-1] == [
        {"do": "end_probe", "row": 0},
        {"do": "end_probe", "row": 1},
        {"do": "ask"},
    ]
    while_the_loop_runs = play([*all_open(), ["begin"]])
    assert while_the_loop_runs["actions"][-1] == [{"do": "end_loop"}, {"do": "ask"}]
    assert while_the_loop_runs["view"]["rows"] == []


def test_an_answer_to_an_earlier_question_is_not_taken(play: Play) -> None:
    played = play([*BEGUN, ["told", {**TEST, "urls": URLS[:2]}, 50]])
    assert len(played["view"]["rows"]) == 4


# Figures


@pytest.fixture(scope="module")
def measure(visitor: Participant) -> Play:
    return lambda calls: visitor.page.evaluate(
        """async (calls) => {
          const { LoopFigures } = await import("/js/connection_test/loop_figures.js");
          const figures = new LoopFigures();
          for (const [name, ...values] of calls) figures[name](...values);
          return figures.read();
        }""",
        calls,
    )


def test_loss_and_times_are_counted_by_packet(measure: Play) -> None:
    sent = [["sent", number, 0] for number in range(100)]
    returned = [["returned", number, 1 + number] for number in range(90)]
    figures = measure([*sent, *returned, ["returned", 0, 500], ["returned", 1_000, 5]])
    assert figures["loss"] == pytest.approx(0.1)
    assert (figures["rttMs"], figures["slowMs"]) == (45, 86)


def test_without_any_packet_back_everything_is_lost(measure: Play) -> None:
    figures = measure([["sent", 0, 0]])
    assert (figures["loss"], figures["rttMs"], figures["bitsPerSecond"]) == (1, None, 0)
    assert measure([])["loss"] == 1


def test_bandwidth_is_what_came_through_in_its_time(measure: Play) -> None:
    half = [*(["floodSent", 1_100] for _ in range(680)), *(["floodArrived", 1_100, at * 4.4] for at in range(340))]
    figures = measure(half)
    assert figures["bitsPerSecond"] == pytest.approx(2_000_000, rel=0.01)
    assert figures["enough"] is False
    whole = [*(["floodSent", 1_100] for _ in range(682)), *(["floodArrived", 1_100, at * 2.2] for at in range(682))]
    assert measure(whole)["enough"] is True


def test_a_burst_out_of_a_buffer_does_not_look_like_a_wide_line(measure: Play) -> None:
    figures = measure([["floodSent", 100_000], *(["floodArrived", 1_100, 1] for _ in range(60))])
    assert figures["bitsPerSecond"] == pytest.approx(66_000 * 8 / 0.75)


# The verdict


def row(transport: str, state: str, reason: str | None = None) -> dict[str, Any]:
    target = {"url": "", "transport": transport, "host": HOST, "port": 3478}
    return {"target": target, "state": state, "reason": reason, "ms": None}


DONE = {"state": "done", "url": "", "figures": FIGURES}
SKIPPED = {"state": "skipped", "url": None, "figures": None}
FAILED = {"state": "failed", "url": "", "figures": None}


@pytest.mark.parametrize(
    ("rows", "loop", "step", "key"),
    [
        ([("udp", "open"), ("tcp", "open"), ("tls", "open")], DONE, "good", "verdict_good"),
        ([("udp", "open"), ("tls", "untested", "needs_name")], DONE, "good", "verdict_untested"),
        ([("udp", "open"), ("tcp", "closed"), ("tls", "untested")], DONE, "weak", "verdict_partly"),
        ([("udp", "closed"), ("tcp", "open"), ("tls", "open")], DONE, "weak", "verdict_no_udp"),
        ([("udp", "closed"), ("tcp", "closed"), ("tls", "open")], DONE, "weak", "verdict_only_tls"),
        ([("udp", "open"), ("tcp", "closed"), ("tls", "open")], DONE, "weak", "verdict_partly"),
        ([("udp", "closed"), ("tls", "closed")], SKIPPED, "bad", "verdict_none"),
        ([("udp", "closed", "unknown_name")], SKIPPED, "bad", "verdict_unknown_name"),
        ([("udp", "open")], FAILED, "bad", "verdict_loop_failed"),
        ([("udp", "open"), ("tls", "unclear", "self_signed")], DONE, "weak", "verdict_certificate"),
        ([("udp", "open"), ("tcp", "closed"), ("tls", "unclear", "self_signed")], DONE, "weak", "verdict_partly"),
        ([("udp", "closed"), ("tcp", "open"), ("tls", "unclear", "self_signed")], DONE, "weak", "verdict_no_udp"),
        ([("udp", "closed"), ("tls", "unclear", "self_signed")], SKIPPED, "bad", "verdict_none_clear"),
        ([("udp", "open", "elsewhere")], SKIPPED, "weak", "verdict_elsewhere"),
        ([("udp", "open", "busy")], SKIPPED, "weak", "verdict_busy"),
        ([("udp", "open")], {**DONE, "figures": {**FIGURES, "loss": 0.05}}, "weak", "verdict_line_weak"),
        ([("udp", "open")], {**DONE, "figures": {**FIGURES, "bitsPerSecond": 500_000}}, "weak", "verdict_line_weak"),
        ([("udp", "open")], {**DONE, "figures": {**FIGURES, "rttMs": 700}}, "bad", "verdict_line_bad"),
        ([("udp", "open")], {**DONE, "figures": {**FIGURES, "loss": 1, "rttMs": None}}, "bad", "verdict_line_bad"),
    ],
)
def test_the_verdict_is_about_consultations_and_not_about_ports(
    ask: Ask, rows: list[tuple[str, ...]], loop: dict[str, Any], step: str, key: str
) -> None:
    verdict = ask("verdict", "verdictOf", {"rows": [row(*each) for each in rows], "loop": loop})
    assert verdict == {"step": step, "key": key}


# What a firewall is told


def targets(host: str) -> list[dict[str, Any]]:
    ports = [("udp", 3479), ("udp", 3478), ("tcp", 3478), ("tls", 5349)]
    return [{"url": "", "transport": transport, "host": host, "port": port} for transport, port in ports]


def test_rules_are_gathered_by_protocol_and_tls_is_tcp(ask: Ask) -> None:
    assert ask("firewall", "rulesOf", targets(HOST)) == [
        {"host": HOST, "protocol": "UDP", "ports": [3478, 3479]},
        {"host": HOST, "protocol": "TCP", "ports": [3478, 5349]},
    ]
    assert ask("firewall", "rulesOf", []) == []


@pytest.mark.parametrize(
    ("host", "nft", "easyrule", "forti"),
    [
        ("203.0.113.7", "ip daddr 203.0.113.7 udp", "pass lan udp any 203.0.113.7 3478", "set subnet 203.0.113.7"),
        ("2001:db8::1", "ip6 daddr 2001:db8::1 udp", "pass lan udp ::/0 2001:db8::1 3478", "set ip6 2001:db8::1/128"),
        (HOST, f"ip daddr {HOST} udp", "pass lan udp any redconnect_relay 3478", f'set fqdn "{HOST}"'),
    ],
)
def test_names_and_addresses_are_written_as_each_firewall_takes_them(
    ask: Ask, host: str, nft: str, easyrule: str, forti: str
) -> None:
    rules = ask("firewall", "rulesOf", targets(host))
    assert nft in ask("firewall", "nftables", rules)
    assert easyrule in ask("firewall", "pfSense", rules)
    assert forti in ask("firewall", "fortigate", rules)


def test_both_languages_say_the_same_things(visitor: Participant) -> None:
    keys = visitor.page.evaluate(
        """async () => {
          const [de, en] = await Promise.all(["de", "en"].map((l) => import(`/js/connection_test/words_${l}.js`)));
          const holes = (value) => (value.match(/\\{\\w+\\}/g) ?? []).sort();
          return [de, en].map(({ WORDS }) => Object.entries(WORDS).map(([key, value]) => [key, holes(value)]));
        }"""
    )
    assert keys[0] == keys[1]
    assert len(keys[0]) > 60

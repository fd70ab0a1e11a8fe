import json
import re
from typing import Any

import pytest

from config.metrics_table import every_row
from tests.support.grafana_boards import BOARDS, path_of
from tests.support.grafana_panels import Board, board_text
from tests.support.service import ROOT

BY_NAME = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
UNITS = {"short", "bps", "pps", "cps", "reqps", "s", "bytes", "percentunit"}
KNOWN_ENDINGS = ("_bucket", "_sum", "_count", "")


def load(board: Board) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path_of(board).read_text())
    return value


def panels(board: Board) -> list[dict[str, Any]]:
    return [panel for panel in load(board)["panels"] if panel["type"] != "row"]


@BY_NAME
def test_the_file_is_what_the_panels_say(board: Board) -> None:
    assert path_of(board).read_text() == board_text(board), "write it: python -m tests.support.grafana_boards"


@BY_NAME
def test_every_panel_asks_the_data_source_that_is_chosen(board: Board) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(panel["datasource"] == chosen for panel in panels(board))
    assert all(target["datasource"] == chosen for panel in panels(board) for target in panel["targets"])


@BY_NAME
def test_every_panel_says_what_it_shows_and_in_which_unit(board: Board) -> None:
    for panel in panels(board):
        assert len(panel["description"]) > 3, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]


@BY_NAME
def test_thresholds_rise(board: Board) -> None:
    for panel in panels(board):
        first, *steps = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert first is None
        assert steps == sorted(steps), panel["title"]


@BY_NAME
def test_no_two_panels_share_a_number_or_a_place(board: Board) -> None:
    every = load(board)["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@BY_NAME
def test_the_first_thing_to_see_is_whether_it_is_well(board: Board) -> None:
    first, *rest = load(board)["panels"]
    assert first["title"] == "Is it well?"
    assert [panel["type"] for panel in rest[:6]] == ["stat"] * 6


def test_identifiers_of_boards_are_their_own() -> None:
    assert len({load(board)["uid"] for board in BOARDS}) == len(BOARDS)


@BY_NAME
def test_every_metric_exists_that_is_asked_for(board: Board) -> None:
    series = {row.name + ending for row in every_row() for ending in KNOWN_ENDINGS}
    recorded = set(re.findall(r"record: (\S+)", (ROOT / "deploy/prometheus/rules.yml").read_text()))
    for panel in panels(board):
        for target in panel["targets"]:
            asked = set(re.findall(r"\b(?:instance:)?(?:redconnect|process|python)_[a-z0-9_:]+", target["expr"]))
            assert asked <= series | recorded, asked - series - recorded

"""Writes deploy/grafana/*.json: `python -m tests.support.grafana_boards`."""

from pathlib import Path
from typing import Final

from tests.support.grafana_host import HOST
from tests.support.grafana_panels import Board, board_text
from tests.support.grafana_relay import RELAY
from tests.support.grafana_rooms import ROOMS
from tests.support.grafana_sfu import SFU
from tests.support.service import ROOT

BOARDS: Final = (RELAY, ROOMS, SFU, HOST)


def path_of(board: Board) -> Path:
    """Where its file is."""
    return ROOT / "deploy" / "grafana" / f"{board.name}.json"


if __name__ == "__main__":
    for each in BOARDS:
        path_of(each).write_text(board_text(each))

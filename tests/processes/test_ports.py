"""What the other tests rely on: no two of them are given the same port."""

import subprocess
import sys

from tests.support.ports import free_ports
from tests.support.service import ROOT

HOLD = """
import sys
from tests.support.ports import free_port
print(*[free_port() for _ in range(500)], flush=True)
sys.stdin.read()
"""


def test_two_processes_are_never_given_the_same_port() -> None:
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    given = []
    for holder in holders:
        assert holder.stdout is not None
        given.append({int(port) for port in holder.stdout.readline().split()})
    for holder in holders:
        holder.communicate(timeout=20)
    assert [len(ports) for ports in given] == [500, 500]
    assert not given[0] & given[1]


def test_ports_in_a_row_are_given_once_like_all_others() -> None:
    rows = [free_ports(3) for _ in range(500)]
    assert len({port for row in rows for port in row}) == 1500

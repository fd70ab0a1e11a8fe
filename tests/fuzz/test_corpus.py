"""Every input of the corpus through its target: what a fuzzer once found stays fixed. Needs no atheris."""

import importlib
from pathlib import Path

import pytest

from tests.fuzz.seeds import CORPUS, TARGETS

MAX_CORPUS_BYTES = 300 << 10
INPUTS = [path for target in TARGETS for path in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_input_of_the_corpus_passes_its_target(path: Path) -> None:
    importlib.import_module(f"tests.fuzz.targets.{path.parent.name}").run(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_seeds_and_every_folder_a_target(target: str) -> None:
    assert len(list((CORPUS / target).iterdir())) >= 20
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in INPUTS) <= MAX_CORPUS_BYTES

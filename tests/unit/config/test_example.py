from pathlib import Path

from config.example import example_text
from config.keys import leaves
from config.load import load_settings
from config.schema import Settings

COMMITTED = Path(__file__).parents[3] / "redconnect.example.yaml"


def test_the_committed_file_is_what_the_schema_says() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == example_text(), (
        "run: python -m config.example > redconnect.example.yaml"
    )


def test_it_loads_without_a_mistake_and_equals_the_defaults() -> None:
    loaded = load_settings(COMMITTED, {})
    assert loaded.model_copy(update={"state_dir": Settings().state_dir}) == Settings()


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("state_dir: state\ntls: {certificate_file: chain.pem, key_file: /etc/key.pem}\n")
    loaded = load_settings(file, {})
    assert loaded.state_dir == str(tmp_path / "state")
    assert loaded.tls.certificate_file == str(tmp_path / "chain.pem")
    assert loaded.tls.key_file == "/etc/key.pem"


def test_every_key_stands_in_it_below_its_description() -> None:
    lines = [line.strip() for line in example_text().splitlines()]
    for path, field in leaves():
        index = next(number for number, line in enumerate(lines) if line.startswith(f"{path[-1]}: "))
        assert lines[index - 1].startswith("# "), path
        assert field.description, path


def test_ranges_and_choices_stand_beside_the_description() -> None:
    assert "# TCP port of /livez, /readyz and /metrics; 1 to 65535\n  port: 9641\n" in example_text()
    assert "console or json\n" in example_text()


def test_no_line_is_longer_than_a_screen() -> None:
    assert max(map(len, example_text().splitlines())) <= 110

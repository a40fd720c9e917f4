"""The operations page: its metrics are those of the programs, its files exist."""

import re
import shlex
from pathlib import Path

import readme_tables

from gpudiff.__main__ import parser_for
from gpudiff.edges.ledger_tables import CREATE
from gpudiff.model import config

ROOT = Path(__file__).parents[2]
PAGE = readme_tables.OPERATIONS.read_text()


def test_the_metrics_are_those_of_the_programs():
    shown = readme_tables.between(PAGE, "metrics")
    assert shown == readme_tables.metrics(), "run: .venv/bin/python tests/readme_tables.py"


def test_the_figures_are_those_that_were_recorded():
    shown = readme_tables.between(PAGE, "service")
    assert shown == readme_tables._service_table.markdown(), "run: .venv/bin/python tests/readme_tables.py"


def test_every_metric_it_asks_for_exists():
    table = readme_tables.between(PAGE, "metrics")
    asked = set(re.findall(r"gpudiff_[a-z_]+", PAGE.replace(table, "")))
    assert len(asked) > 5
    assert [name for name in asked if f"`{name.removesuffix('_bucket')}`" not in table] == []


def test_every_event_of_the_log_is_in_its_table():
    code = "".join(path.read_text() for path in (ROOT / "gpudiff").glob("*/*.py"))
    events = set(re.findall(r'log\.(?:say|warn)\(\s*"([^"]+)"', code))
    table = PAGE[PAGE.index("| event |") : PAGE.index("## Metrics")]
    assert len(events) > 15
    assert sorted(event for event in events if f"`{event}`" not in table) == []


def test_every_table_of_the_ledger_is_described_with_all_its_columns():
    rows = [line for line in PAGE[PAGE.index("## The ledger in SQL") :].splitlines() if line.startswith("| `")]
    for table, columns in re.findall(r"CREATE TABLE (\w+) \((.*)\)", "\n".join(CREATE)):
        (row,) = [row for row in rows if f"`{table}`" in row.split("|")[1]]
        names = re.findall(r"(?:^|, )([a-zA-Z_]+) (?:TEXT|\{)", columns)
        assert len(names) > 1
        assert [one for one in names if f"`{one}`" not in row and one not in ("visit", "snap", "detector")] == []


def test_the_regions_shown_are_accepted(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "gpudiff.toml").write_text(block)
    assert len(config.load(tmp_path / "gpudiff.toml").service.associators) == 3


def test_every_command_of_its_start_is_one_that_the_program_accepts():
    start = PAGE.split("## Configuration")[0]
    lines = re.findall(r"^    .*?\bgpudiff (keys .*|send .*|config)", start, re.MULTILINE)
    assert len(lines) == 4
    for words in (shlex.split(line.split(">")[0]) for line in lines):
        assert parser_for(words).parse_args(words).command == words[0]


def test_every_file_it_names_exists():
    named = re.findall(r"`(docker/[\w./-]+)`", PAGE)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_command_it_names_exists():
    from gpudiff.__main__ import COMMANDS

    named = set(re.findall(r"gpudiff ([a-z]+)(?: -| [A-Z]|`)", PAGE)) - {"keys"}  # "where this version has it"
    assert named <= set(COMMANDS)

"""The README: its commands run, its tables are those of the source, its links lead somewhere.

Blocks marked `sh` and `python` run in order, in one shell, in a folder beside a link to the real frames, so
that a reader who pastes them gets what the test gets.  `make`, `pip` and `docker` lines are checked, not run.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import readme_tables
from sinking import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ON_A_FREE_PORT = """
gpudiff() {
    case $1 in
        run) exec gpudiff "$@" --frames tcp://127.0.0.1:5570 ;;
        send|announce) command gpudiff "$@" --to tcp://127.0.0.1:5570 ;;
        *) command gpudiff "$@" ;;
    esac
}
"""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = ("make", "pip", "docker")
TIMEOUT_S = 240


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return [body for name, body in BLOCK.findall(README) if name == language]


def lines_of(command: str) -> list[list[str]]:
    """The words of every line of the sh blocks that begins with a command."""
    words = [shlex.split(line) for body in blocks("sh") for line in body.splitlines()]
    return [line for line in words if line and line[0] == command]


def script() -> str:
    """The sh and python blocks as one bash script; what it leaves running is stopped and waited for."""
    parts = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", ON_A_FREE_PORT]
    for name, body in BLOCK.findall(README):
        if name == "sh":
            parts += [line for line in body.splitlines() if line.split(" ")[0] not in NOT_RUN]
        elif name == "python":
            parts.append(f"python - <<'PYTHON'\n{body}PYTHON")
    return "\n".join(parts).replace("5570", str(free_port())) + "\n"


def test_every_command_runs(tmp_path, real_data):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "data").symlink_to(real_data)
    here = tmp_path / "checkout"
    here.mkdir()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=here,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for made in ("difference.fits", "sources.ecsv", "report.png", "alert.png"):
        assert (here / made).stat().st_size > 0
    assert list(here.glob("service/**/*.avro"))


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in lines_of("make")} | set(re.findall(r"`make ([a-z]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_every_extra_that_is_installed_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"\.\[([\w,]+)\]", README) for name in group.split(",")}
    assert named <= set(extras)


@pytest.mark.parametrize("name", readme_tables.TABLES)
def test_a_table_is_that_of_the_source(name):
    expected = readme_tables.TABLES[name]()
    assert readme_tables.between(README, name) == expected, "run: .venv/bin/python tests/readme_tables.py"


def test_the_configuration_shown_is_accepted_and_is_the_default(tmp_path):
    from gpudiff.model.config import Configuration, load

    path = tmp_path / "gpudiff.toml"
    path.write_text(blocks("toml")[0])
    assert load(path) == Configuration()


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_of_the_program_is_named():
    from gpudiff.__main__ import COMMANDS

    assert [name for name in COMMANDS if f"gpudiff {name}" not in README and f"`{name}`" not in README] == []

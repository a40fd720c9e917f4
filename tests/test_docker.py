"""docker/: every command line is one that the programs accept, every file named is there."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gpudiff.__main__ import parser_for
from gpudiff.model.config import load
from gpudiff.model.errors import StoreFailed

DOCKER = Path(__file__).parents[1] / "docker"
SERVICES = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
UNITS = sorted((DOCKER / "systemd").glob("*.service"))
OURS = {name: words for name, words in SERVICES.items() if words["image"] == "gpudiff"}


def unit_command(unit: Path) -> list[str]:
    """The words after the program's name."""
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))[1:]


def test_there_are_two_differencers_an_associator_postgresql_and_prometheus():
    assert set(SERVICES) == {"associator", "differencer-1", "differencer-2", "postgres", "prometheus"}


@pytest.mark.parametrize(
    "command", [*(shlex.split(one["command"]) for one in OURS.values()), *map(unit_command, UNITS)]
)
def test_every_command_line_is_accepted(command):
    assert parser_for(command).parse_args(command).command == command[0]


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian: apt install systemd)"
)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/gpudiff/bin/gpudiff", "/bin/true"))
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")  # it warns of unknown keys, and returns 0 then


def volumes(services: dict) -> list[str]:
    """SOURCE:PLACE of all that is mounted in the short form."""
    return [one for words in services.values() for one in words.get("volumes", []) if isinstance(one, str)]


def test_every_file_that_is_mounted_or_built_from_exists():
    mounted = [volume.split(":")[0] for volume in volumes(SERVICES)]
    here = [DOCKER / name for name in mounted if name.startswith("./")]
    built = [
        DOCKER / one["build"]["context"] / one["build"]["dockerfile"] for one in OURS.values() if "build" in one
    ]
    assert here
    assert [path for path in [*here, *built] if not path.is_file()] == []


def test_every_volume_that_is_used_is_declared():
    declared = yaml.safe_load((DOCKER / "compose.yaml").read_text())["volumes"]
    used = {volume.split(":")[0] for volume in volumes(SERVICES)}
    assert {name for name in used if not name.startswith(".")} == set(declared)


def test_the_image_gives_its_user_the_place_where_volumes_go():
    """A new volume belongs to whom the image's folder does, and to root where there is none."""
    places = {volume.split(":")[1] for volume in volumes(OURS) if volume[0] not in "./"}
    assert places == {"/data"}
    for recipe in DOCKER.glob("Dockerfile.*"):
        assert "install -d -o gpudiff /data" in recipe.read_text()


def test_the_image_is_built_once():
    """Compose builds it for each service that says so, and keeps the last one's."""
    assert [name for name, one in OURS.items() if "build" in one] == ["associator"]


def test_everything_is_started_again_when_the_machine_is():
    """`on-failure` leaves down what was stopped in good order with the machine."""
    assert {one["restart"] for one in SERVICES.values()} == {"unless-stopped"}


def test_what_a_program_keeps_is_in_a_volume_with_a_name():
    """The official images declare their own places, which without a name are new after each `down`."""
    places = {
        name: [volume.split(":")[1] for volume in one["volumes"]]
        for name, one in SERVICES.items()
        if name not in OURS
    }
    assert "/var/lib/postgresql/data" in places["postgres"]
    assert "/prometheus" in places["prometheus"]


def test_a_folder_of_templates_that_is_not_there_is_not_made():
    templates = [one for words in OURS.values() for one in words["volumes"] if isinstance(one, dict)]
    assert len(templates) == 2
    assert not any(one["bind"]["create_host_path"] for one in templates)


def test_the_associator_starts_when_postgresql_answers():
    assert SERVICES["associator"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert SERVICES["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_an_image_has_a_home_for_whomever_it_runs_as():
    """`docker run --user` names somebody the image does not know, whose home would be /; CuPy refuses that."""
    for recipe in DOCKER.glob("Dockerfile.*"):
        assert "ENV HOME=/tmp" in recipe.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_has_a_home_that_it_may_look_into(unit):
    """ProtectHome closes the user's own, and astropy ends the program where it cannot look."""
    assert "ProtectHome=yes\n" in unit.read_text()
    assert "StateDirectory=gpudiff\n" in unit.read_text()
    assert "Environment=HOME=/var/lib/gpudiff\n" in unit.read_text()


def test_an_associator_whose_store_failed_is_started_again():
    """PostgreSQL that was started anew has closed its connection."""
    (never,) = [line for line in UNITS[0].read_text().splitlines() if line.startswith("RestartPreventExitStatus=")]
    assert UNITS[0].stem == "gpudiff-associator"
    assert str(StoreFailed.exit_status) not in never.partition("=")[2].split()


def test_prometheus_asks_the_metrics_port_of_every_program():
    (job,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    ports = {name: shlex.split(one["command"]) for name, one in OURS.items()}
    expected = {f"{name}:{words[words.index('--metrics') + 1].split(':')[1]}" for name, words in ports.items()}
    assert set(job["static_configs"][0]["targets"]) == expected


def test_the_configuration_is_accepted():
    assert load(DOCKER / "gpudiff.toml").service.workers == 2

"""gpudiff status: the view in a terminal."""

import io
import json
from pathlib import Path

import pytest
from batches import a_batch
from rich.console import Console

from gpudiff.__main__ import main
from gpudiff.cli.status import fitting, view
from gpudiff.edges.standing import Standing
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator


def a_service(directory) -> None:
    """What an associator left that committed one frame."""
    associator = Associator(directory, Configuration(), clock=lambda: 61007.001)
    associator.take(a_batch(3))
    associator.report("ready", "tcp://127.0.0.1:7")
    associator.close()


def test_once_prints_visits_programs_and_dead_letters(tmp_path, capsys):
    a_service(tmp_path)
    assert main(["status", str(tmp_path), "--once"]) == 0
    said = capsys.readouterr().out
    for part in ("COLLECTING", "1 ok", "associator", "never started", "dead letters: 0", "last hour"):
        assert part in said


def test_a_filter_that_is_switched_off_is_shown_with_its_owner_and_reason(tmp_path, capsys):
    a_service(tmp_path)
    told = {"a": {"owner": "a@b.c", "off": "took more than 50 ms"}, "b": {"owner": "b@b.c", "off": ""}}
    (tmp_path / "broker.json").write_text(json.dumps({"filters": told, "problem": "f.toml: no owner"}))
    assert main(["status", str(tmp_path), "--once"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "filter off a of a@b.c: took more than 50 ms" in said
    assert "filters the old ones stay: f.toml: no owner" in said
    assert "b@b.c" not in said.replace("a@b.c", "")
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["filters_off"]] == ["a"]


BUSY = {
    "differencer": {"state": "running", "running": True, "pid": 2**22, "frames": "tcp://127.0.0.1:5570"}
    | dict.fromkeys(("accepted", "done", "duplicate", "failed", "sources", "alerts"), 1_234_567)
    | {"in_flight": 12, "queued": 8, "bytes": 6 * 10**8, "room": 2**32, "clients": 3, "credit": 4, "busy": 2}
    | {
        "workers": [1, 2],
        "worker_restarts": 1,
        "away": 5,
        "put_off": 7,
        "forced_dropped": 1,
        "refused": {"unknown key": 2, "no key": 32},
        "load": {"left_out": ["forced photometry"]},
    }
    | {"associators": {f"tcp://10.0.0.{n}:5571": {"connected": n == 3, "refused": ""} for n in (3, 4)}},
    "associator": {"state": "ready", "running": True, "pid": 7, "counts": {"refused alerts: no key": 5}},
    "sinks": [
        {"name": "kafka://10.0.0.9:9092/alerts?tier=full", "frames": 345, "alerts": 18_234, "wait_s": 71.2}
        | {"delivered": 1_234_567, "refused": 163, "errors": 14, "trouble": "NeighbourLost: [Errno 111] refused"}
    ],
    "held": 7001,
    "hour": {"visits": 92, "frames": 17_388, "alerts": 920_000},
    "visits": [
        {"visit": 2026112400000, "state": "COLLECTING", "states": {"COMMITTED": 80, "EXPECTED": 109}}
        | {"sources": 40_234, "known": 39_000, "latency": {"median_s": 1.23, "p98_s": 2.0, "max_s": 13.3}}
    ],
}


@pytest.mark.parametrize("width", [80, 120])
def test_a_busy_night_fits_the_terminal(width, tmp_path):
    latency = BUSY["visits"][0]["latency"] | {"count": 9}
    found = Standing(**{**BUSY, "hour": BUSY["hour"] | {"latency": latency}})
    console = Console(width=width, file=io.StringIO())
    console.print(view(found, Path("/night")))
    said = console.file.getvalue()
    assert "…" not in said
    for part in (
        "in hand 12  queued 8  0.60 of 4.29 GB",
        "3 with frames in hand, 4 frames each at most",
        "2 of 2 busy, 1 restarted",
        "away  tcp://10.0.0.4:5571",
        "7 frames to be made up, 1 dropped",
        "5 frames wait for an associator",
        "left out     forced photometry",
        "7001 alerts of suspect frames",
        "not let in   2 frames: unknown key, 32 frames: no key, 5 alerts: no key",
        "visits 92  frames 17388  alerts 920000",
        "median 1.2 s  p98 2.0 s  max 13.3 s",
        "kafka://10.0.0.9:9092/alerts?tier=full\n",
        "18234 alerts wait for 71.2 s  delivered 1234567  refused 163  errors 14\n",
        "  NeighbourLost: [Errno 111] refused",
        "80 ok 109 expected",
        "1.2  2.0 13.3",
    ):
        assert part in said


def test_a_ledger_in_another_store_is_read_from_there(tmp_path, capsys):
    (tmp_path / "gpudiff.toml").write_text('[ledger]\nstore = "postgresql:///absent?host=/nowhere"\n')
    assert main(["status", str(tmp_path), "--once", "--config", str(tmp_path / "gpudiff.toml")]) == 0
    assert "postgresql" in capsys.readouterr().out


def test_json_is_one_document(tmp_path, capsys):
    a_service(tmp_path)
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["visits"][0]["sources"] == 3


def test_a_directory_that_is_absent_is_refused(tmp_path, capsys):
    assert main(["status", str(tmp_path / "absent"), "--once"]) == 3
    assert "UnreadableFile" in capsys.readouterr().err


def test_where_only_the_differencer_is_no_ledger_is_missed(tmp_path, capsys):
    (tmp_path / "status.json").write_text(json.dumps(BUSY["differencer"]))
    assert main(["status", str(tmp_path), "--once"]) == 0
    said = capsys.readouterr().out
    assert "never started in this directory" in said
    assert "expected a ledger" not in said


def test_an_associator_elsewhere_that_is_away_is_told(tmp_path, capsys):
    only = {"tcp://10.0.0.4:5571": {"connected": False, "refused": ""}}
    (tmp_path / "status.json").write_text(json.dumps(BUSY["differencer"] | {"associators": only}))
    assert main(["status", str(tmp_path), "--once"]) == 0
    assert "away  tcp://10.0.0.4:5571" in capsys.readouterr().out


@pytest.mark.parametrize(("height", "visits"), [(20, 1), (30, 6), (60, 8)])
def test_the_live_view_shows_as_many_visits_as_fit(height, visits):
    latency = BUSY["visits"][0]["latency"] | {"count": 9}
    nights = [BUSY["visits"][0] | {"visit": 100 + n} for n in range(8)]
    found = Standing(**{**BUSY, "hour": BUSY["hour"] | {"latency": latency}, "visits": nights})
    console = Console(width=100, height=height, file=io.StringIO())
    console.print(fitting(found, Path("/night"), console))
    said = console.file.getvalue()
    assert said.count("COLLECTING") == visits
    assert "107 " in said
    assert "dead letters" in said

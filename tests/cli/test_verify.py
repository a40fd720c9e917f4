"""gpudiff verify: a planted change is found in its step."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from batches import a_batch, taken

from gpudiff.__main__ import main
from gpudiff.edges.provenance_file import SUFFIX
from gpudiff.model.provenance import extend, step

ID = 7 << 24 | 4 << 16
STEPS = (
    step("calibrate", "1", "c1", ["f1"], "cpu"),
    step("difference", "1", "c2", ["t1"], "cpu"),
    step("detect", "1", "c3", []),
)
NAMES = ["calibrate", "difference", "detect", "associate", "encode"]
PAGE = Path(__file__).parents[2] / "gpudiff" / "edges" / "PROVENANCE.md"


@pytest.fixture
def archive(tmp_path) -> Path:
    taken(tmp_path, dataclasses.replace(a_batch(1), steps=STEPS, fingerprint=extend("", STEPS)))
    return tmp_path


def kept(archive: Path) -> tuple[Path, dict]:
    path = archive / "alerts" / f"7{SUFFIX}"
    return path, json.loads(path.read_text())


def test_an_alert_is_verified_step_by_step(archive, capsys):
    assert main(["verify", str(archive), str(ID)]) == 0
    *steps, verdict = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in steps] == NAMES
    assert verdict.split() == ["verified:", steps[-1].split()[-1]]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("key", ["version", "configuration"])
def test_a_planted_change_is_named_by_its_step(archive, capsys, number, key):
    path, line = kept(archive)
    line["steps"][number][key] += "x"
    path.write_text(json.dumps(line))
    assert main(["verify", str(archive), str(ID)]) == 3
    assert f"first that differs: {NAMES[number]}:" in capsys.readouterr().out


def test_steps_of_another_alert_are_refused(archive, capsys):
    path, line = kept(archive)
    line["steps"] = line["steps"][:-1]
    path.write_text(json.dumps(line))
    assert main(["verify", str(archive), str(ID)]) == 3
    assert "the alert says" in capsys.readouterr().out


def test_the_device_stands_beside_a_step_and_changes_no_fingerprint(archive, capsys):
    path, line = kept(archive)
    line["steps"][0]["device"] = "cuda:0"
    path.write_text(json.dumps(line))
    assert main(["verify", str(archive), str(ID)]) == 0
    assert "cuda:0" in capsys.readouterr().out


def test_without_the_file_the_ledger_tells_the_steps(archive, capsys):
    kept(archive)[0].unlink()
    assert main(["verify", str(archive), str(ID)]) == 0
    assert "encode" in capsys.readouterr().out


def test_another_configuration_is_named_by_the_step_it_belongs_to(archive, tmp_path, capsys):
    (tmp_path / "c.toml").write_text("[detect]\nthreshold = 7.0\n")
    assert main(["verify", str(archive), str(ID), "--config", str(tmp_path / "c.toml")]) == 3
    assert "first that differs: calibrate: configuration" in capsys.readouterr().out


def test_an_alert_that_is_not_there_is_refused(archive, capsys):
    assert main(["verify", str(archive), "5"]) == 3
    assert "diaSourceId 5" in capsys.readouterr().err


@pytest.mark.parametrize("beside", ["", ', "device": "cpu", "note": 1.0'], ids=["four keys", "others beside"])
def test_a_brokers_step_made_as_the_page_says_is_verified(archive, tmp_path, capsys, beside):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    code = code.replace("0123456789abcdef" * 2, kept(archive)[1]["fingerprint"])
    code = code.replace('"inputs": []', '"inputs": []' + beside)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    (tmp_path / "broker.jsonl").write_text(done.stdout)
    extra = ["--steps", str(tmp_path / "broker.jsonl"), "--fingerprint", json.loads(done.stdout)["fingerprint"]]
    assert main(["verify", str(archive), str(ID), *extra]) == 0
    assert "my-broker" in capsys.readouterr().out


FORM = '{"step": "x", "version": "1", "configuration": "", "inputs": []}'
BROKEN = ["7", '"x"', "null", "{}", '{"step": "x"}', FORM.replace('"1"', "null")]
NO_DIGESTS = [FORM.replace("[]", inputs) for inputs in ("null", "[1e400]", "[" * 9999 + "]" * 9999)]


@pytest.mark.parametrize("step", BROKEN + NO_DIGESTS)
def test_a_line_of_a_broker_that_is_not_of_the_form_is_passed_over(archive, tmp_path, capsys, step):
    line = f'{{"fingerprint": "{"0" * 32}", "after": "{kept(archive)[1]["fingerprint"]}", "steps": [{step}]}}'
    (tmp_path / "broker.jsonl").write_text(line)
    extra = ["--steps", str(tmp_path / "broker.jsonl"), "--fingerprint", "0" * 32]
    assert main(["verify", str(archive), str(ID), *extra]) == 3
    assert "nobody kept them" in capsys.readouterr().err


def test_a_brokers_words_stay_on_their_line(archive, tmp_path, capsys):
    broker = {"step": "x\nverified: 0", "version": "\x1b[2J", "configuration": "", "inputs": []}
    after = kept(archive)[1]["fingerprint"]
    mine = extend(after, [broker])
    line = {"fingerprint": mine, "after": after, "steps": [{**broker, "fingerprint": mine}]}
    (tmp_path / "broker.jsonl").write_text(json.dumps(line))
    extra = ["--steps", str(tmp_path / "broker.jsonl"), "--fingerprint", mine]
    assert main(["verify", str(archive), str(ID), *extra]) == 0
    *_, said, verdict = capsys.readouterr().out.splitlines()
    assert said.startswith(r"x\nverified: 0 \x1b[2J")
    assert verdict == f"verified: {mine}"

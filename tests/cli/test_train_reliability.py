"""gpudiff train-reliability: what it wants before it begins."""

from gpudiff.__main__ import main
from gpudiff.cli import train_reliability


def test_without_scikit_learn_nothing_is_subtracted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_reliability, "find_spec", lambda name: None)
    assert main(["train-reliability", "--scenes", "1", "-o", str(tmp_path / "model.json")]) == 3
    assert "pip install 'gpudiff[train]'" in capsys.readouterr().err

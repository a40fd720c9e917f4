"""A reliability model's file."""

import json

import pytest

from gpudiff.edges.reliability_model import model_named, read_model, write_model
from gpudiff.model.errors import BadConfiguration


def test_a_model_comes_back_as_it_was(tmp_path):
    model = model_named("default")
    write_model(tmp_path / "model.json", model)
    assert read_model(tmp_path / "model.json") == model


def test_none_is_no_model():
    assert model_named("none") is None


def changed(tmp_path, **values):
    write_model(tmp_path / "model.json", model_named("default"))
    document = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**document, **values}))
    return tmp_path / "model.json"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"curves": {"weather": {"knots": [0], "values": [1], "missing": 0}}}, "weather"),
        ({"curves": {"snr": {"knots": [1, 0], "values": [1, 2], "missing": 0}}}, "rising knots"),
        ({"curves": {"snr": {"knots": [0], "values": [1, 2], "missing": 0}}}, "rising knots"),
        ({"intercept": "high"}, "float"),
    ],
)
def test_a_wrong_model_is_refused_by_name(tmp_path, values, said):
    with pytest.raises(BadConfiguration, match=said):
        read_model(changed(tmp_path, **values))


def test_an_absent_model_is_refused(tmp_path):
    with pytest.raises(BadConfiguration, match="reliability model"):
        model_named(str(tmp_path / "no.json"))

"""Filters as they are declared."""

from importlib import resources

import pytest

from gpudiff.edges.filter_file import read_filters
from gpudiff.edges.sinks import check
from gpudiff.model.errors import BadFilter

GOOD = '[[filter]]\nname = "a"\nowner = "me"\nwhere = "snr > 5"\nsink = "zmq+tcp://127.0.0.1:1"\n'


def written(tmp_path, text):
    (tmp_path / "filters.toml").write_text(text)
    return tmp_path / "filters.toml"


def test_a_filter_has_limits_that_need_not_be_said(tmp_path):
    (one,) = read_filters(written(tmp_path, GOOD))
    assert (one.quota, one.largest_match_rate, one.time_limit_ms) == (20, 0.05, 50.0)


def test_another_declaration_is_another_digest(tmp_path):
    (one,) = read_filters(written(tmp_path, GOOD))
    (other,) = read_filters(written(tmp_path, GOOD + "quota = 21\n"))
    assert one.digest != other.digest


def test_the_examples_are_well_formed():
    from gpudiff.services.broker import compiled

    with resources.as_file(resources.files("gpudiff.edges") / "example_filters.toml") as path:
        filters = compiled(path)
    assert len(filters) == 4
    for one, _ in filters:
        check(one.sink)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[filter", "TOML"),
        ("", "filter"),
        (GOOD + "colour = 3\n", "'a': no such key"),
        (GOOD.replace("owner", "#"), "owner"),
        (GOOD + 'quota = "many"\n', "quota"),
        (GOOD + "quota = 0\n", "quota >= 1"),
        (GOOD + "largest_match_rate = 2\n", "largest_match_rate"),
        (GOOD + "time_limit_ms = 0\n", "time_limit_ms"),
        (GOOD.replace('"a"', '"../a"'), "a name of letters"),
        (GOOD + GOOD, "each name once"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(tmp_path, text, said):
    with pytest.raises(BadFilter, match=said):
        read_filters(written(tmp_path, text))


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(BadFilter, match=r"no\.toml"):
        read_filters(tmp_path / "no.toml")

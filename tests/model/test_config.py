"""Configuration: what is accepted, and that each refusal names the section and the key."""

import dataclasses

import pytest

from gpudiff.model.config import CHOICES, Configuration, from_tables, load, override, to_toml
from gpudiff.model.errors import BadConfiguration


def test_an_empty_file_is_the_defaults(tmp_path):
    path = tmp_path / "gpudiff.toml"
    path.write_text("")
    assert load(path) == Configuration()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    path = tmp_path / "gpudiff.toml"
    path.write_text("[detect]\nthreshold = 6.5\n[instrument]\ngain = 2\n")
    made = load(path)
    assert made.detect.threshold == 6.5
    assert made.instrument.gain == 2.0  # TOML's integer where a float belongs
    assert (
        dataclasses.replace(made, detect=Configuration().detect, instrument=Configuration().instrument)
        == Configuration()
    )


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"detection": {}}, r"\[detection\]: expected one of"),
        ({"detect": 5}, r"\[detect\]: expected one of"),
        ({"detect": {"treshold": 5.0}}, r"\[detect\] treshold: no such key"),
        ({"detect": {"threshold": "5"}}, r"\[detect\] threshold: expected float, got '5'"),
        ({"detect": {"threshold": True}}, r"\[detect\] threshold: expected float, got True"),
        ({"detect": {"decorrelate": 1}}, r"\[detect\] decorrelate: expected bool, got 1"),
        ({"match": {"half_width": 12.5}}, r"\[match\] half_width: expected int, got 12.5"),
        ({"match": {"convolve": "both"}}, r"\[match\] convolve: expected one of .*, got 'both'"),
        ({"match": {"algorithm": "magic"}}, r"\[match\] algorithm: expected one of .*, got 'magic'"),
        ({"service": {"sinks": "zmq+tcp://127.0.0.1:5571"}}, r"\[service\] sinks: expected a list of strings"),
        ({"service": {"sinks": [5571]}}, r"\[service\] sinks: expected a list of strings, got \[5571\]"),
        ({"service": {"sinks": ["a", 1]}}, r"\[service\] sinks: expected a list of strings, got \['a', 1\]"),
        ({"service": {"frames": 5570}}, r"\[service\] frames: expected str, got 5570"),
    ],
)
def test_each_refusal_names_the_key(tables, says):
    with pytest.raises(BadConfiguration, match=says):
        from_tables(tables)


def test_a_list_of_strings_is_kept_in_order():
    assert from_tables({"service": {"sinks": ["b", "a"]}}).service.sinks == ("b", "a")


@pytest.mark.parametrize("content", [b"[detect", b"\xff\xfe", b"threshold 5"])
def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(BadConfiguration, match=r"broken\.toml: expected a TOML file"):
        load(path)


def test_an_absent_file_is_refused_by_name(tmp_path):
    with pytest.raises(BadConfiguration, match=r"absent\.toml: expected a TOML file"):
        load(tmp_path / "absent.toml")


def test_override_changes_one_value_and_keeps_its_section():
    start = from_tables({"match": {"half_width": 9}})
    made = override(start, "match", convolve="science")
    assert made.match.convolve == "science"
    assert made.match.half_width == 9
    assert start.match.convolve == "auto"


def test_override_is_checked_as_a_file_is():
    with pytest.raises(BadConfiguration, match=r"command line: \[match\] convolve: expected one of"):
        override(Configuration(), "match", convolve="both")


def test_every_default_is_acceptable_input():
    assert from_tables(dataclasses.asdict(Configuration())) == Configuration()


def test_every_choice_is_of_a_key_that_exists():
    for section, key in CHOICES:
        assert getattr(getattr(Configuration(), section), key) in CHOICES[section, key]


def test_the_digest_of_a_section_sees_that_section_only():
    start, changed = Configuration(), override(Configuration(), "detect", threshold=7.0)
    assert start.digest("detect") != changed.digest("detect")
    assert start.digest("match") == changed.digest("match")


def test_where_and_beside_what_a_frame_is_computed_is_not_in_the_digest():
    changed = override(Configuration(), "match", device="cuda", threads=3, gpu_memory=2.0, gpu_frames=4)
    assert changed.digest("match") == Configuration().digest("match")


def test_all_that_is_wrong_is_named_in_one_run():
    with pytest.raises(BadConfiguration) as caught:
        from_tables({"detct": {}, "service": {"credit": 0, "leases": 1.0}, "match": {"align": "maybe"}})
    said = str(caught.value)
    for part in ("4 things", "[detct]", "[service] credit: expected 1 or more, got 0", "leases", "align"):
        assert part in said


@pytest.mark.parametrize(
    ("tables", "meant"), [({"detct": {}}, "detect"), ({"service": {"leases": 1.0}}, "lease_s")]
)
def test_a_misspelt_name_gets_a_hint(tables, meant):
    with pytest.raises(BadConfiguration, match=rf"did you mean {meant}\?"):
        from_tables(tables)


def test_a_number_that_is_none_is_out_of_every_range():
    with pytest.raises(BadConfiguration, match=r"lease_s: expected 0\.1 or more, got nan"):
        from_tables({"service": {"lease_s": float("nan")}})


def test_numbers_that_a_provenance_step_names_are_finite():
    for section, key in (("detect", "threshold"), ("match", "candidate_snr")):
        with pytest.raises(BadConfiguration, match=rf"{key}: expected 0 to 1e\+06, got inf"):
            from_tables({section: {key: float("inf")}})


def test_what_is_printed_is_read_back_to_the_same(tmp_path):
    path = tmp_path / "gpudiff.toml"
    path.write_text(to_toml(override(Configuration(), "service", ring='/"odd"', lease_s=2.5)))
    assert load(path).service.ring == '/"odd"'
    assert load(path).service.lease_s == 2.5

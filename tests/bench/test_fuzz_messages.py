"""bench/fuzz_messages.py in short: damaged input is refused by a name."""

import warnings

import pytest

SEED = 20261124


@pytest.mark.parametrize(("what", "count"), [("wire_message", 4000), ("fits_file", 300)])
def test_damaged_input_is_taken_or_refused_by_a_name(bench, tmp_path, what, count):
    fuzz = bench("fuzz_messages")
    with warnings.catch_warnings(action="ignore"):
        names, growth, crashed = fuzz.fuzz(getattr(fuzz, what)(tmp_path), count, SEED)
    assert crashed == []
    assert growth < fuzz.GROWTH_BYTES
    assert sum(names.values()) == count
    assert {"taken", "BadMessage" if what == "wire_message" else "UnreadableFile"} <= names.keys()


def test_an_error_without_a_name_is_a_crash(bench):
    def broken(rng, number):
        if number == 7:
            raise ZeroDivisionError

    assert bench("fuzz_messages").fuzz(broken, 20, SEED)[2] == [7]

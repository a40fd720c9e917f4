"""Fingerprints: equal histories give equal ones, any change anywhere gives another."""

import pytest

from gpudiff.model.provenance import canonical, digest, extend, step

HISTORY = (step("calibrate", "0.1.0", "c1", ["f1"]), step("difference", "0.1.0", "c2", ["t1", "t2"]))


def test_the_order_of_keys_says_nothing():
    turned = tuple(dict(reversed(one.items())) for one in HISTORY)
    assert extend("", turned) == extend("", HISTORY)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(
    ("key", "value"), [("step", "detect"), ("version", "0.1.1"), ("configuration", "c9"), ("inputs", ["f9"])]
)
def test_any_change_of_any_step_changes_the_fingerprint(row, key, value):
    changed = list(HISTORY)
    changed[row] = {**HISTORY[row], key: value}
    assert extend("", changed) != extend("", HISTORY)


def test_the_order_of_steps_matters():
    assert extend("", HISTORY[::-1]) != extend("", HISTORY)


def test_a_fingerprint_is_carried_on_step_by_step():
    assert extend(extend("", HISTORY[:1]), HISTORY[1:]) == extend("", HISTORY)


def test_no_steps_leave_the_fingerprint_alone():
    assert extend("abc", ()) == "abc"


def test_a_fingerprint_is_sixteen_bytes_in_hex():
    assert len(bytes.fromhex(extend("", HISTORY))) == 16


def test_a_digest_is_blake2b_of_the_parts_joined():
    # python3 -c "import hashlib; print(hashlib.blake2b(b'abc', digest_size=16).hexdigest())"
    assert digest(b"a", b"bc") == "cf4ab791c62b8d2b2109c90275287816"


def test_canonical_json_is_sorted_and_tight():
    assert canonical({"b": [1, 2.5], "a": None}) == b'{"a":null,"b":[1,2.5]}'


def test_canonical_json_refuses_what_json_has_no_number_for():
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"gain": float("nan")})

"""The language of filters: what it says, and all that it refuses."""

import numpy as np
import pytest

from gpudiff.model import association
from gpudiff.model.association import KINDS
from gpudiff.model.errors import BadFilter
from gpudiff.model.outgoing import OUTGOING
from gpudiff.model.tables import Table, flag
from gpudiff.science.filters import OutOfTime, columns_of, compile_expression, matches


def some_rows(count=4, **columns):
    values = {c.name: np.zeros(count, c.dtype) for c in OUTGOING}
    return Table(OUTGOING, {**values, **columns})


def found(text, rows):
    return matches(compile_expression(text), columns_of(rows)).tolist()


ROWS = some_rows(
    snr=[5, 10, 20, np.nan],
    kind=[association.KNOWN, association.NEW, association.MOVING, association.TONIGHT],
    flagged=[False, True, False, False],
    flags=[0, int(flag("DIPOLE")), int(flag("SPIKE", "DIPOLE")), 0],
    band=["g", "r", "i", ""],
    psfFlux=[-10.0, 5, 100, 0],
    psfFluxErr=[1.0, 1, 0, 0],
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snr > 8", [0, 1, 1, 0]),
        ("not snr > 8", [1, 0, 0, 1]),
        ("5 <= snr < 20", [1, 1, 0, 0]),
        ("snr > 8 and not flagged", [0, 0, 1, 0]),
        ("snr < 6 or snr > 15 or flagged", [1, 1, 1, 0]),
        ('kind == "new"', [0, 1, 0, 0]),
        ('kind in ("known", "tonight")', [1, 0, 0, 1]),
        ('band not in ("g", "r")', [0, 0, 1, 1]),
        ('flag("DIPOLE")', [0, 1, 1, 0]),
        ('flag("SPIKE")', [0, 0, 1, 0]),
        ("abs(psfFlux) >= 10 * psfFluxErr", [1, 0, 1, 1]),
        ("psfFlux / psfFluxErr > 4", [0, 1, 1, 0]),
        ("-psfFlux > 2 - 1 + 1", [1, 0, 0, 0]),
        ("1 / 2 == 0.5 and 1 / detector > 1e300", [1, 1, 1, 1]),
        ("isnan(snr)", [0, 0, 0, 1]),
        ("sqrt(psfFlux) >= 10 or log10(snr) < 0.8", [1, 0, 1, 0]),
        ("True", [1, 1, 1, 1]),
        ("flagged == True", [0, 1, 0, 0]),
        ("isnan(nDiaSources)", [0, 0, 0, 0]),
        ("snr < 99999999999", [1, 1, 1, 0]),  # a whole number that no 32 bits of the column hold
        ("psfFlux > -9223372036854775807", [1, 1, 1, 1]),
        ("psfFlux in (-10, 0)", [1, 0, 0, 1]),
    ],
)
def test_an_expression_picks_what_it_says(text, expected):
    assert found(text, ROWS) == [bool(one) for one in expected]


def test_the_words_of_kind_are_those_of_the_association():
    numbers = [association.KNOWN, association.TONIGHT, association.MOVING, association.NEW]
    assert [KINDS[number] for number in numbers] == ["known", "tonight", "moving", "new"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("snr.__class__", "attribute access"),
        ("(1).__class__.__bases__[0]", "indexing|attribute access"),
        ("__import__('os').system('true')", "function __import__"),
        ("eval('1')", "function eval"),
        ("read_csv('/etc/passwd')", "function read_csv"),
        ("abs(snr, 2) > 1", "function abs"),
        ("abs(x=snr) > 1", "function abs"),
        ("(lambda: 1)()", "is not allowed"),
        ("[snr for snr in (1, 2)]", "a comprehension"),
        ("f'{snr}' == band", "a formatted string"),
        ("(snr := 3) > 2", "an assignment"),
        ("snr if flagged else dec", "if ... else"),
        ("snr > 1 # and more", "a comment"),
        ("snr > (SELECT max(snr) FROM alerts)", "one expression"),
        ("snr > 1; import os", "one expression"),
        ("snr > 1\nimport os", "one expression"),
        ("9" * 40 + " > snr", "constant too large"),
        ("9" * 5000 + " > snr", "at most 1000 characters"),
        ("snr < 1e301", "constant too large"),
        ("9 ** 9 ** 9 > snr", "a power"),
        ("band == 'r' * 1000000000", "expected a number"),
        ("1 << 60 > snr", "operator LShift"),
        ("(" * 300 + "snr" + ")" * 300, "one expression"),
        ("not " * 100 + "flagged", "nested too deep"),
        (" + ".join(["snr"] * 160) + " > 1", "at most 150 terms"),
        ("snr > None", "constant None"),
        ("snr > 1j", "constant 1j"),
        ("band == b'r'", "constant b'r'"),
        ("snr is 3", "operator Is"),
        ("\x00", "one expression"),
        ("", "one expression"),
    ],
)
def test_a_hostile_expression_is_refused_by_name(text, said):
    with pytest.raises(BadFilter, match=said):
        compile_expression(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("snr", "true or false, got a number"),
        ("snr and flagged", "and: expected a yes-or-no, got a number: snr"),
        ("not snr", "not: expected a yes-or-no"),
        ("band > 3", "a text and a number"),
        ("flagged > 1", "a yes-or-no and a number"),
        ("band + 1 > 2", "expected a number, got a text"),
        ("abs(band) > 1", "abs: expected a number"),
        ("snr in ('a', 'b')", "in: expected a number, got a text"),
        ("snr in dec", "list of constants"),
        ("snr in (dec, 3)", "constants only"),
        ("kind == 'nev'", "known, tonight, moving, new"),
        ("kind in ('new', 'nev')", "known, tonight, moving, new"),
        ("flag('DIPOL')", "EDGE, MASKED"),
    ],
)
def test_wrong_types_are_refused(text, said):
    with pytest.raises(BadFilter, match=said):
        compile_expression(text)


@pytest.mark.parametrize(
    ("name", "meant"), [("psfflux", "psfFlux"), ("relibility", "reliability"), ("ndiasources", "nDiaSources")]
)
def test_an_unknown_column_suggests_what_was_meant(name, meant):
    with pytest.raises(BadFilter, match=rf"no column is named '{name}'; did you mean .*{meant}"):
        compile_expression(f"{name} > 1")


def test_an_expression_out_of_time_is_stopped_between_two_kernels():
    ticks = iter(range(100))
    long = compile_expression(" and ".join(["snr > 1"] * 20))
    with pytest.raises(OutOfTime):
        matches(long, columns_of(ROWS), limit_s=5, clock=lambda: next(ticks))
    assert next(ticks) < 10  # it did not go on to the end, 39 kernels away


def test_whole_numbers_that_overflow_are_the_filters_error():
    with pytest.raises(BadFilter, match="overflow"):
        found("visit * 9000000000000000000 > 1", some_rows(visit=[7, 7, 7, 7]))

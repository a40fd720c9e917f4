"""Flux in nanojansky."""

import pytest

from gpudiff.model.photometry import AB_ZERO_NJY, electrons, nanojansky


def test_a_zero_point_says_how_many_nanojansky_one_unit_is():
    assert nanojansky("adu", 8.9) == pytest.approx(1e9, rel=2e-3)  # AB magnitude 8.9, rounded, is 1 Jy
    assert nanojansky("adu", 31.4) == pytest.approx(1, rel=2e-3)


@pytest.mark.parametrize(
    ("unit", "factor"), [("nJy", 1.0), (" nJy ", 1.0), ("uJy", 1e3), ("Jy", 1e9), ("maggy", AB_ZERO_NJY)]
)
def test_an_image_in_units_of_flux_needs_no_zero_point_and_heeds_none(unit, factor):
    assert nanojansky(unit, None) == factor
    assert nanojansky(unit, 27.0) == factor


def test_without_either_nobody_knows():
    assert nanojansky("adu", None) is None
    assert nanojansky("", None) is None


@pytest.mark.parametrize("unit", ["electron", "ELECTRONS", "e-", " e "])
def test_an_image_of_electrons_has_one_a_unit(unit):
    assert electrons(unit, float("nan")) == 1.0


@pytest.mark.parametrize("unit", ["electron/s", "ELECTRONS/S", "e-/sec", "electron s-1", "e.s**-1", "e- / s"])
def test_an_image_of_electrons_a_second_has_those_of_its_exposure_a_unit(unit):
    assert electrons(unit, 30.0) == 30.0
    assert electrons(unit, float("nan")) is None


@pytest.mark.parametrize("unit", ["", "adu", "nJy", "adu/s", "electronvolt", "erg/s"])
def test_other_units_say_nothing_of_electrons(unit):
    assert electrons(unit, 30.0) is None

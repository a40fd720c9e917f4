"""gpudiff/science/ALGORITHMS.md: every choice and every quality number is in it, under its own name."""

import re
from dataclasses import fields
from importlib.resources import files

import pytest

from gpudiff.edges.fits_difference import primary_cards
from gpudiff.model.config import CHOICES
from gpudiff.model.frame import Quality

TEXT = (files("gpudiff") / "science" / "ALGORITHMS.md").read_text()
NUMBERS = dict(re.findall(r"^\| `([A-Z0-9]+)` \| `(\w+)` \|", TEXT, re.MULTILINE))
"""Header keyword -> JSON name."""


@pytest.mark.parametrize("choice", CHOICES["match", "algorithm"] + CHOICES["match", "convolve"])
def test_every_choice_has_a_row(choice):
    assert re.search(rf"^\| `{choice}` \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("choice", CHOICES["match", "align"])
def test_every_way_to_align_is_named(choice):
    assert f"`{choice}`" in TEXT


def test_every_quality_number_has_a_row_under_its_json_name():
    assert set(NUMBERS.values()) == {one.name for one in fields(Quality)}


@pytest.mark.parametrize(("keyword", "name"), NUMBERS.items())
def test_every_quality_number_is_in_the_header_under_the_keyword_of_its_row(
    keyword, name, made_difference, made_sources
):
    header = {card.keyword: card.value for card in primary_cards(made_difference, made_sources)}
    value = getattr(made_difference.quality, name)
    assert header[keyword] == value if value == value else keyword in header  # NaN is an undefined card

"""FITS cards written without astropy are those that astropy reads."""

import re

import pytest
from astropy.io.fits import Header
from hypothesis import given
from hypothesis import strategies as st

from gpudiff.model.cards import card_images

READ_WRONG = re.compile("' */")
"""Such a text astropy 8.0.2 writes right, its quote doubled, and reads as if it ended there."""
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80).map(str.rstrip)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS.filter(lambda text: not READ_WRONG.search(text)),
)
KEYS = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,7}\Z").filter(lambda key: key not in ("END", "COMMENT", "HISTORY"))


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_what_was_written_is_read_back(cards):
    read = Header.fromstring(card_images(cards.items()).decode())
    assert {key: read[key] for key in cards} == cards


@given(KEYS, VALUES)
def test_every_card_is_of_full_length_and_verifies(key, value):
    images = card_images([(key, value)])
    assert len(images) % 80 == 0
    Header.fromstring(images.decode()).cards[0].verify("exception")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "café"])
def test_what_no_header_holds_is_refused(value):
    with pytest.raises(ValueError, match=r"nan|inf|ascii|ASCII|illegal"):
        card_images([("CRVAL1", value)])

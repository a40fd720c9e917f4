"""gpudiff.edges.fits_ahead: planes that go to disk before the primary header is known."""

import io

import numpy as np
from astropy.io import fits

from gpudiff.edges.fits_ahead import Ahead


def test_a_mask_of_uint16_is_written_as_the_same_numbers_in_int32():
    mask = np.array([[0, 1, 4096], [65535, 2, 3]], np.uint16)
    file = io.BytesIO()
    ahead = Ahead(file)
    ahead.begin([], {})
    ahead.finish([], {"MASK": (mask, [])}, [])
    file.seek(0)
    with fits.open(file) as hdus:
        assert hdus["MASK"].header["BITPIX"] == 32
        assert "BZERO" not in hdus["MASK"].header
        np.testing.assert_array_equal(hdus["MASK"].data, mask)

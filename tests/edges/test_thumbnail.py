import base64
import io

import numpy as np
from astropy.io import fits
from matplotlib.image import imread

from gpudiff.edges.thumbnail import png, triple


def drawn(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return imread(io.BytesIO(base64.b64decode(data)))


def fits_of(image):
    file = io.BytesIO()
    fits.PrimaryHDU(image.astype(np.float32)).writeto(file)
    return file.getvalue()


def test_the_picture_has_the_pixels_it_was_given():
    grey = np.arange(15, dtype=np.uint8).reshape(3, 5)
    assert (np.rint(drawn(png(grey)) * 255) == grey).all()


def test_three_cutouts_lie_side_by_side_with_north_up():
    star = np.random.default_rng(1).normal(0, 1, (51, 51))
    star[40, 25] = 100
    picture = drawn(triple((fits_of(star), fits_of(star * 0.1), fits_of(star))))
    assert picture.shape == (51, 3 * 51 + 4)
    assert picture[10, 25] == picture.max()  # row 40 from below


def test_a_fading_source_is_darker_than_no_change():
    hole = np.random.default_rng(2).normal(0, 1, (31, 31))
    hole[15, 15] = -100
    picture = drawn(triple((fits_of(hole), fits_of(-hole), fits_of(hole))))
    assert picture[15, 66 + 15] < 0.05
    assert 0.3 < np.median(picture[:, 66:]) < 0.7


def test_missing_cutouts_and_missing_pixels_are_dark():
    part = np.random.default_rng(3).normal(0, 1, (51, 51))
    part[:, :20] = np.nan
    picture = drawn(triple((fits_of(part), None, None)))
    assert (picture[:, :20] < 0.1).all()
    assert (picture[:, 53:104] < 0.1).all()

"""gpudiff.edges.cutout_fits: cutouts as FITS files that any reader reads."""

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from batches import WCS as CARDS

from gpudiff.arrays.cutouts import cutouts
from gpudiff.edges.cutout_fits import write_cutouts

SIP = {
    **CARDS,
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "A_ORDER": 2,
    "A_2_0": 1e-5,
    "B_ORDER": 2,
    "B_0_2": -2e-5,
}


def made(wcs, x=100.3, y=199.7, unit="adu"):
    image = np.random.default_rng(1).normal(size=(300, 200)).astype(np.float32)
    image[200, 101] = np.nan
    stamp = cutouts(image, np.array([x]), np.array([y]), 51)[:, None].repeat(3, 1)
    files = next(iter(write_cutouts(stamp, np.array([x]), np.array([y]), wcs, unit)))
    return stamp[0, 0], [fits.open(io.BytesIO(file))[0] for file in files]


def test_pixels_come_back_with_nan():
    stamp, hdus = made(CARDS)
    assert np.isnan(stamp).sum() == 1
    for hdu in hdus:
        np.testing.assert_array_equal(hdu.data, stamp)


def test_each_cutout_names_its_kind_and_unit():
    _, hdus = made(CARDS, unit="electron")
    assert [hdu.header["EXTNAME"] for hdu in hdus] == ["DIFFERENCE", "SCIENCE", "TEMPLATE"]
    assert {hdu.header["BUNIT"] for hdu in hdus} == {"electron"}


@pytest.mark.parametrize("cards", [CARDS, SIP], ids=["TAN", "TAN-SIP"])
@pytest.mark.parametrize(("x", "y"), [(100.3, 199.7), (0.0, 2.0), (99.5, 100.49)])
def test_a_pixel_has_the_same_sky_position_in_cutout_and_frame(cards, x, y):
    _, hdus = made(cards, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame, stamp = WCS(fits.Header(cards)), WCS(hdus[0].header)
    corner = np.floor([x + 0.5, y + 0.5]) - 25
    there = frame.all_pix2world(corner[0] + 10, corner[1] + 30, 0)
    np.testing.assert_allclose(stamp.all_pix2world(10, 30, 0), there, atol=1e-11)  # CRPIX has 9 decimals


def test_without_a_wcs_there_are_no_wcs_cards():
    _, hdus = made({})
    assert "CRPIX1" not in hdus[0].header


def test_a_file_is_whole_blocks():
    stamp = np.zeros((1, 3, 51, 51), np.float32)
    many = {**SIP, **{f"A_0_{n}": 1e-9 * n for n in range(40)}}
    for cards in ({}, CARDS, many):
        for file in next(iter(write_cutouts(stamp, np.zeros(1), np.zeros(1), cards, "adu"))):
            assert len(file) % 2880 == 0
            assert fits.open(io.BytesIO(file))[0].data.shape == (51, 51)


def test_no_cutouts_make_no_files():
    assert list(write_cutouts(np.zeros((0, 3, 51, 51), np.float32), np.zeros(0), np.zeros(0), CARDS, "adu")) == []

"""gpudiff.edges.cutout_fits: cutouts as FITS files that any reader reads."""

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty
from astropy.wcs import WCS
from batches import WCS as CARDS

from gpudiff.arrays.cutouts import cutouts
from gpudiff.edges.cutout_fits import ROWS, write_cutouts
from gpudiff.model.batch import OwnPlanes

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
    return stamp[0, 0], [fits.open(io.BytesIO(file))[0] for file in files_of(stamp, wcs, x, y, unit)[0]]


def files_of(stamp, wcs, x=100.3, y=199.7, unit="adu", own=None):
    """The files of each source: difference, science, template; variance is 2, the mask 1 in one corner."""
    count, sizes = len(stamp), []
    variance = np.full((count, 51, 51), 2, np.float32)
    mask = np.zeros((count, 51, 51), np.uint16)
    mask[:, 3, 4] = 1 << 11
    place = np.full(count, x), np.full(count, y)
    psf = np.arange(29 * 29, dtype=np.float32).reshape(29, 29)
    _, written = write_cutouts(
        stamp, variance, mask, psf, *place, wcs, unit, lambda size: sizes.append(size) or b"", own
    )
    wholes = [bytes(files) for files in written]
    ends = np.cumsum(sizes)
    return [[whole[end - size : end] for size, end in zip(sizes, ends, strict=True)] for whole in wholes]


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
        for file in files_of(stamp, cards)[0]:
            assert len(file) % 2880 == 0
            assert fits.open(io.BytesIO(file))[0].data.shape == (51, 51)


def test_no_cutouts_make_no_files():
    assert files_of(np.zeros((0, 3, 51, 51), np.float32), CARDS) == []


def test_astropy_reads_variance_mask_and_psf_of_the_difference(tmp_path):
    stamp = np.random.default_rng(2).normal(size=(1, 3, 51, 51)).astype(np.float32)
    (tmp_path / "difference.fits").write_bytes(files_of(stamp, CARDS)[0][0])
    read = CCDData.read(tmp_path / "difference.fits")
    np.testing.assert_array_equal(read.data, stamp[0, 0])
    assert isinstance(read.uncertainty, VarianceUncertainty)
    assert np.all(read.uncertainty.array == 2)
    assert np.argwhere(read.mask).tolist() == [[3, 4]]
    np.testing.assert_array_equal(read.psf, np.arange(29 * 29).reshape(29, 29)[2:-2, 2:-2])
    assert read.wcs.pixel_n_dim == 2


def test_astropy_reads_the_planes_of_science_and_template_where_they_are_given(tmp_path):
    count = 2 * ROWS + 1
    stamp = np.random.default_rng(2).normal(size=(count, 3, 51, 51)).astype(np.float32)
    own = OwnPlanes(
        np.arange(count * 2, dtype=np.float32).reshape(count, 2, 1, 1) * np.ones((51, 51), np.float32),
        np.arange(count * 2, dtype=np.uint16).reshape(count, 2, 1, 1) * np.ones((51, 51), np.uint16),
        np.stack([np.full((27, 27), 2.0), np.full((27, 27), 3.0)]).astype(np.float32),
    )
    files = files_of(stamp, CARDS, own=own)
    for row in (0, ROWS, count - 1):
        for kind in (1, 2):
            (tmp_path / "one.fits").write_bytes(files[row][kind])
            read = CCDData.read(tmp_path / "one.fits")
            np.testing.assert_array_equal(read.data, stamp[row, kind])
            assert np.all(read.uncertainty.array == 2 * row + kind - 1)
            with fits.open(tmp_path / "one.fits") as hdus:
                assert np.all(hdus["MASK"].data == 2 * row + kind - 1)
            assert read.psf.shape == (25, 25)
            assert np.all(read.psf == kind + 1)
        assert np.all(fits.getdata(io.BytesIO(files[row][0]), "UNCERT") == 2)


def test_without_planes_of_their_own_science_and_template_are_images_alone():
    files = files_of(np.zeros((1, 3, 51, 51), np.float32), CARDS)[0]
    assert [len(fits.open(io.BytesIO(one))) for one in files] == [4, 1, 1]


def test_the_mask_keeps_its_bits_and_names_them():
    hdus = fits.open(io.BytesIO(files_of(np.zeros((1, 3, 51, 51), np.float32), CARDS)[0][0]))
    assert hdus["MASK"].data[3, 4] == 1 << hdus["MASK"].header["MP_STREAK"]


def test_files_beyond_those_made_together_are_each_sources_own():
    stamp = np.arange(2 * ROWS + 1, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 51, 51), np.float32)
    pixels = [fits.getdata(io.BytesIO(files[2]))[0, 0] for files in files_of(stamp, CARDS)]
    assert pixels == list(range(2 * ROWS + 1))

"""What the planes of a FITS file are called by other houses, and what was not used of it."""

import numpy as np
import pytest
from astropy.io import fits

from gpudiff.edges.fits import read_frame
from gpudiff.model.config import Instrument
from gpudiff.model.errors import NotAnImage
from gpudiff.model.mask import bit


@pytest.mark.parametrize(
    ("name", "cards", "values"),
    [
        ("SIGMA", {}, [4.0, 0.25, 0.0]),
        ("IVAR", {}, [0.5, 2.0, 0.0]),
        ("INVVAR", {}, [0.5, 2.0, 0.0]),
        ("UNCERT", {}, [4.0, 0.25, 0.0]),
        ("UNCERT", {"UTYPE": "InverseVariance"}, [0.5, 2.0, 0.0]),
        ("UNCERT", {"UTYPE": "VarianceUncertainty"}, [2.0, 0.5, 0.0]),
        ("UNCERT", {"BUNIT": "(adu)2"}, [2.0, 0.5, 0.0]),
        ("ERR", {"BUNIT": "(electron / s)**2"}, [2.0, 0.5, 0.0]),
        ("ERR", {"BUNIT": "DN2/s2"}, [2.0, 0.5, 0.0]),
        ("ERR", {"BUNIT": "1e-2"}, [4.0, 0.25, 0.0]),
        ("ERR", {"BUNIT": "erg/s/cm2"}, [4.0, 0.25, 0.0]),
        ("ERR", {"BUNIT": "erg s**-1 cm**-2"}, [4.0, 0.25, 0.0]),
    ],
)
def test_a_variance_is_read_under_the_names_of_other_houses(tmp_path, name, cards, values):
    hdu = fits.ImageHDU(np.array([[2, 0.5, 0]], "f4"), fits.Header(cards), name=name)
    fits.HDUList([fits.PrimaryHDU(np.ones((1, 3), "f4")), hdu]).writeto(tmp_path / "a.fits")
    assert read_frame(tmp_path / "a.fits").variance.tolist() == [values]


@pytest.mark.parametrize("name", ["IVAR", "WHT", "WT", "WGT", "WEIGHT"])
def test_pixels_without_weight_have_no_value(tmp_path, name):
    hdus = [fits.PrimaryHDU(np.ones((1, 3), "f4")), fits.ImageHDU(np.array([[2, 0.5, 0]], "f4"), name=name)]
    fits.HDUList([*hdus, fits.ImageHDU(np.array([[1, 0, 0]], "u1"), name="MSK")]).writeto(tmp_path / "a.fits")
    assert read_frame(tmp_path / "a.fits").mask.tolist() == [[bit("BAD"), 0, bit("NO_DATA")]]


def two_chips(path):
    """Chips 1 and 2, the values of each plane ten times its number, and weights of the first."""
    hdus = [fits.PrimaryHDU()]
    for chip in (1, 2):
        for name, value in (("SCI", 10), ("ERR", 1)):
            hdus.append(fits.ImageHDU(np.full((2, 3), chip * value, "f4"), name=name, ver=chip))
    fits.HDUList([*hdus, fits.ImageHDU(np.full((2, 3), 4, "f4"), name="WHT")]).writeto(path)
    return path


@pytest.mark.parametrize(("extension", "value"), [("", 10), ("[SCI]", 10), ("[sci,2]", 20), ("[3]", 20)])
def test_an_extension_is_named_in_brackets_and_has_its_own_planes(tmp_path, extension, value):
    frame = read_frame(f"{two_chips(tmp_path / 'a.fits')}{extension}")
    assert (frame.image[0, 0], frame.variance[0, 0]) == (value, (value / 10) ** 2)


def test_weights_that_are_asked_for_are_an_inverse_variance(tmp_path):
    path = two_chips(tmp_path / "a.fits")
    assert (read_frame(path, variance=f"{path}[WHT]").variance == 0.25).all()


def test_weights_that_bear_a_detector_s_name_are_known_by_their_kind_of_product(tmp_path):
    """As DECam's weight maps, files of their own."""
    fits.writeto(tmp_path / "a.fits", np.ones((1, 3), "f4"))
    weights = fits.ImageHDU(np.array([[2, 0.5, 0]], "f4"), name="N4")
    primary = fits.PrimaryHDU(header=fits.Header({"PRODTYPE": "wtmap"}))
    fits.HDUList([primary, weights]).writeto(tmp_path / "w.fits")
    assert read_frame(tmp_path / "a.fits", variance=tmp_path / "w.fits").variance.tolist() == [[0.5, 2.0, 0.0]]


def test_an_extension_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(NotAnImage, match=r"a\.fits\[N4\]: expected one of the images SCI, ERR, SCI, ERR, WHT"):
        read_frame(f"{two_chips(tmp_path / 'a.fits')}[N4]")


def test_extensions_that_are_not_used_are_named_with_the_way_to_use_them(tmp_path):
    (note,) = read_frame(two_chips(tmp_path / "a.fits")).notes
    assert note.startswith("extensions not used: WHT (but its 0: pixels without a value), SCI, ERR; ")
    assert "--science-variance" in note
    assert note.endswith("a.fits[WHT]")


def test_a_mosaic_of_colours_is_named(tmp_path):
    fits.writeto(tmp_path / "dslr.fits", np.ones((4, 6), "u2"), fits.Header({"BAYERPAT": "RGGB"}))
    assert any("BAYERPAT = 'RGGB'" in note for note in read_frame(tmp_path / "dslr.fits").notes)


@pytest.mark.parametrize(("bad_bits", "bad"), [(0, [False, True, True, True]), (5, [False, True, False, True])])
def test_the_instrument_says_which_bits_of_a_mask_without_names_are_bad(tmp_path, bad_bits, bad):
    mask = fits.ImageHDU(np.array([[0, 1, 2, 4]], "u4"), name="DQ")
    fits.HDUList([fits.PrimaryHDU(np.ones((1, 4), "f4")), mask]).writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits", Instrument(bad_bits=bad_bits))
    assert (frame.mask[0] != 0).tolist() == bad


def test_bits_without_names_are_said_where_there_are_several(tmp_path):
    mask = np.zeros((10, 10), "i2")
    mask[5, 5], mask[0, 5] = 4, 1
    fits.HDUList([fits.PrimaryHDU(np.ones((10, 10), "f4")), fits.ImageHDU(mask, name="DQ")]).writeto(
        tmp_path / "a.fits"
    )
    (note,) = read_frame(tmp_path / "a.fits").notes
    assert "0 (25.00%), 2 (25.00%) are all BAD" in note
    assert "bad_bits" in note

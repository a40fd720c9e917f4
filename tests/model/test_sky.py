"""Sky positions by FITS WCS, against the projection's own formulas."""

import headers
import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS
from headers import SCALE

from gpudiff.model.errors import BadWcs
from gpudiff.model.sky import Sky
from gpudiff.model.tangent import Tangent


def tangent(ra: float, dec: float) -> dict:
    """(ra, dec) on 0-based pixel (511, 511)."""
    return headers.tangent(ra, dec, 512.0, 512.0)


def test_the_reference_pixel_is_the_reference_position():
    ra, dec = Sky(tangent(150.0, 2.0)).to_sky(511.0, 511.0)  # FITS counts pixels from 1, we from 0
    assert (float(ra), float(dec)) == pytest.approx((150.0, 2.0), abs=1e-12)


def test_galactic_coordinates_become_equatorial_ones_and_back():
    sky = Sky(tangent(0.0, 0.0) | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"})
    ra, dec = sky.to_sky(511.0, 511.0)
    # The galactic centre of the IAU (1958) in J2000: 17h45m37.20s -28d56'10.2".
    assert (float(ra), float(dec)) == pytest.approx((266.40500, -28.93617), abs=2e-5)
    x, y = sky.to_pixels(*sky.to_sky(np.array([20.0, 900.0]), np.array([30.0, 700.0])))
    np.testing.assert_allclose((x, y), ((20, 900), (30, 700)), atol=1e-6)


def test_coordinates_of_b1950_become_those_of_icrs():
    ra, dec = Sky(tangent(0.0, 0.0) | {"RADESYS": "FK4", "EQUINOX": 1950.0}).to_sky(511.0, 511.0)
    assert (float(ra), float(dec)) == pytest.approx((0.6407, 0.2784), abs=2e-4)  # half a century's precession


def test_where_the_sky_has_no_pixel_a_galactic_wcs_says_nan():
    sky = Sky(tangent(0.0, 0.0) | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"})
    assert np.isnan(sky.to_sky(np.array([np.nan]), np.array([0.0]))).all()


def test_coordinates_that_are_neither_are_refused():
    with pytest.raises(BadWcs, match="expected equatorial or galactic coordinates, got XLON-TAN, XLAT-TAN"):
        Sky(tangent(0.0, 0.0) | {"CTYPE1": "XLON-TAN", "CTYPE2": "XLAT-TAN"})


def test_polynomials_on_both_axes_of_a_tangent_plane_are_those_of_tpv():
    first_degree = {f"PV{axis}_{term}": float(term == 1) for axis in (1, 2) for term in (0, 1, 2)}
    place = Sky(tangent(150.0, 2.0) | first_degree).to_sky(600.0, 700.0)
    # the identity, as SCAMP writes it where it fits no distortion
    np.testing.assert_allclose(place, Sky(tangent(150.0, 2.0)).to_sky(600.0, 700.0), atol=1e-10)


def test_positions_are_those_of_the_gnomonic_projection():
    # Calabretta & Greisen 2002, section 5.1.3: R = 180/pi cot(theta)
    _, dec = Sky(tangent(150.0, 0.0)).to_sky(511.0, 511.0 + 1000)
    assert float(dec) == pytest.approx(np.degrees(np.arctan(np.radians(1000 * SCALE))), abs=1e-11)


@pytest.mark.parametrize(
    ("ra", "dec"), [(150.0, 2.0), (0.0, -30.0), (359.9999, 60.0), (80.0, 89.99), (10.0, -89.99)]
)
def test_there_and_back_is_the_same_pixel(ra, dec):
    sky = Sky(tangent(ra, dec))
    y, x = np.mgrid[0:1024:200, 0:1024:200].astype(float)
    there_x, there_y = sky.to_pixels(*sky.to_sky(x, y))
    np.testing.assert_allclose(there_x, x, atol=1e-6)  # px; 2e-7 arcsec, far below any measured position
    np.testing.assert_allclose(there_y, y, atol=1e-6)


def test_the_jacobian_is_the_pixel_scale_turned_and_mirrored():
    made = Sky(tangent(150.0, 60.0)).jacobian(np.array([511.0]), np.array([511.0]))
    # 1e-10 of a degree in 5e-5: central differences over one pixel of a smooth projection
    np.testing.assert_allclose(made, [[[-SCALE, 0], [0, SCALE]]], atol=1e-10)


def test_the_jacobian_goes_across_ra_zero():
    made = Sky(tangent(0.0, 10.0)).jacobian(np.array([511.0, 511.4]), np.array([511.0, 500.0]))
    np.testing.assert_allclose(made[:, 0, 0], -SCALE, rtol=1e-4)  # projection distortion over 11 px is below that


def test_the_jacobian_predicts_where_a_small_step_leads():
    sky = Sky(tangent(150.0, 45.0))
    x, y, step = np.array([900.0]), np.array([100.0]), np.array([0.3, -0.2])
    ra0, dec0 = sky.to_sky(x, y)
    ra1, dec1 = sky.to_sky(x + step[0], y + step[1])
    moved = sky.jacobian(x, y)[0] @ step
    expected = [(ra1 - ra0)[0] * np.cos(np.radians(dec0[0])), (dec1 - dec0)[0]]
    np.testing.assert_allclose(moved, expected, rtol=1e-3)  # second order over a third of a pixel


@pytest.mark.parametrize("cards", [{}, {"CTYPE1": "WAVE", "CRVAL1": 1.0, "CDELT1": 1.0, "CRPIX1": 1.0}])
def test_without_a_celestial_wcs_there_is_no_sky(cards):
    sky = Sky(cards)
    assert not sky
    for made in (*sky.to_sky([1.0, 2.0], [3.0, 4.0]), *sky.to_pixels([1.0, 2.0], [3.0, 4.0])):
        assert np.isnan(made).all()
        assert made.shape == (2,)


@pytest.mark.parametrize("value", ["512", True, float("nan")])
@pytest.mark.parametrize("key", ["CRPIX1", "CRVAL2", "CD1_1", "PV2_1", "LONPOLE"])
def test_a_keyword_that_needs_a_number_and_has_none_is_refused(key, value):
    with pytest.raises(BadWcs, match=f"{key} = {value!r}"):
        Sky({**tangent(150.0, 2.0), key: value})


@pytest.mark.parametrize("entry", [0.0, 1e-5])
def test_a_singular_matrix_is_refused(entry):
    with pytest.raises(BadWcs, match="got a singular CD matrix"):
        Sky(tangent(150.0, 2.0) | {f"CD{i}_{j}": entry for i in (1, 2) for j in (1, 2)})


def distorted() -> dict:
    """A camera's SIP distortion, forward and backward, as an astrometric solution writes it."""
    cards = tangent(150.0, 60.0) | {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "RADESYS": "ICRS"}
    for name, size in (("A", 2e-7), ("B", -3e-7), ("AP", -2e-7), ("BP", 3e-7)):
        cards |= {f"{name}_ORDER": 3, f"{name}_2_0": size, f"{name}_1_1": size / 3, f"{name}_0_3": size * 1e-4}
    return cards


@pytest.mark.parametrize("cards", [tangent(10.0, -30.0), distorted()], ids=["plain", "SIP"])
def test_the_short_way_to_a_wcs_gives_what_astropy_makes_of_the_header(cards):
    y, x = np.mgrid[0:2048:256, 0:2048:256].astype(float)
    astropys = WCS(Header(cards), relax=True)
    made = Sky(cards)
    ra, dec = made.to_sky(x, y)
    # astropy writes 16 digits of a keyword on its way to wcslib, here all 17 are: 1e-13 of 150 degrees
    np.testing.assert_allclose((ra, dec), astropys.all_pix2world(x, y, 0), rtol=0, atol=1e-11)
    np.testing.assert_allclose(made.to_pixels(ra, dec), astropys.all_world2pix(ra, dec, 0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("missing", ["B_ORDER", "AP_ORDER"])
def test_a_distortion_in_one_direction_only_is_refused(missing):
    cards = distorted()
    del cards[missing]
    with pytest.raises(BadWcs, match=r"ORDER|orders"):
        Sky(cards)


TANGENTS = {
    "CD": {},
    "turned": {"CD1_2": SCALE / 3, "CD2_1": -SCALE / 5},
    "CDELT": {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CDELT1": -SCALE, "CDELT2": SCALE},
    "PC": {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CDELT1": -SCALE, "PC1_2": 0.3},
    "CD without zeros, and CDELT": {"CD1_2": None, "CD2_1": None, "CDELT1": 7.0},
    "south": {"CRVAL2": -80.0, "RADESYS": "FK5", "EQUINOX": 2000.0, "LONPOLE": 180.0, "LATPOLE": -80.0},
}


@pytest.mark.parametrize("more", TANGENTS.values(), ids=TANGENTS.keys())
def test_a_tangent_plane_is_where_wcslib_has_it(more):
    cards = {key: value for key, value in (tangent(359.9, 30.0) | more).items() if value is not None}
    assert Tangent.of(cards) is not None
    y, x = np.mgrid[-2000:3000:500, 0:2048:256].astype(float)
    wcslib = WCS(Header(cards))
    place = wcslib.all_pix2world(x, y, 0)
    # as above; and degrees to their 17th digit are pixels to 1e-9
    np.testing.assert_allclose(Sky(cards).to_sky(x, y), place, rtol=0, atol=1e-11)
    np.testing.assert_allclose(Sky(cards).to_pixels(*place), (x, y), rtol=0, atol=1e-6)


def test_the_far_half_of_the_sky_is_not_on_a_tangent_plane():
    x, y = Sky(tangent(10.0, 0.0)).to_pixels([190.0, 10.0, np.nan], [0.0, 1.0, 0.0])
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "more",
    [
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"},
        {"LONPOLE": 170.0},
        {"CUNIT1": "arcsec"},
        {"RADESYS": "FK4"},
        {"EQUINOX": 1950.0},
        {"EQUINOX": "J2000"},
        {"CRVAL2": 90.0},
        {"PC1_1": 1.0},
        {"CD1_1": 0.0},
    ],
    ids=str,
)
def test_keywords_that_say_more_than_a_tangent_plane_are_left_to_wcslib(more):
    assert Tangent.of(tangent(10.0, 20.0) | more) is None

"""FITS header keywords become those of a WCS, against astropy's reading of the whole header."""

import warnings

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS
from headers import SCALE, tangent

from gpudiff.edges.wcs import known, wcs_of
from gpudiff.model.errors import BadWcs
from gpudiff.model.sky import Sky

TURNED = tangent(150.0, 20.0, 100.5, 120.5, 30.0)
NO_CD = {f"CD{i}_{j}": None for i in (1, 2) for j in (1, 2)}
DEC_FIRST = {
    "CTYPE1": "DEC--TAN",
    "CTYPE2": "RA---TAN",
    "CRVAL1": 20.0,
    "CRVAL2": 150.0,
    **{"CD1_1": SCALE, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": -SCALE},
}
ARCSEC = {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 540000.0, "CRVAL2": 72000.0}
CDELT = NO_CD | {"CDELT1": -SCALE, "CDELT2": SCALE}
WAYS = {
    "declination first": DEC_FIRST,
    "declination first, distorted": DEC_FIRST
    | {"CTYPE1": "DEC--TAN-SIP", "CTYPE2": "RA---TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5},
    "galactic latitude first": DEC_FIRST | {"CTYPE1": "GLAT-TAN", "CTYPE2": "GLON-TAN"},
    "CROTA2": CDELT | {"CROTA2": 30.0},
    "PC of old": CDELT | {"PC001001": 0.9, "PC001002": 0.1, "PC002001": -0.1, "PC002002": 0.9},
    "CD of old": NO_CD | {"CD001001": -SCALE, "CD001002": 0.0, "CD002001": 0.0, "CD002002": SCALE},
    "CD beside PC and CDELT": {"PC1_1": 1.0, "CDELT1": -SCALE},
    "arcsec": ARCSEC | {"CD1_1": -0.2, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.2},
    "a pole": {"LONPOLE": 150.0, "LATPOLE": 10.0},
    "beyond 360 degrees": {"CRVAL1": 510.0},
    "EPOCH of B1950": {"EPOCH": 1950.0},
    "EQUINOX of B1950": {"EQUINOX": 1950.0},
    "FK4": {"RADECSYS": "FK4", "EQUINOX": 1950.0},
    "galactic": {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"},
    "zenithal polynomial": {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": -50.0},
    "a spectral axis": {"CTYPE3": "WAVE", "CRVAL3": 5e-7, "CRPIX3": 1.0, "CD3_3": 1e-9},
}


def header(**changes) -> Header:
    made = Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": 201, "NAXIS2": 241})
    made.update({key: value for key, value in (TURNED | changes).items() if value is not None})
    return made


def astropys(whole: Header, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees by astropy's high-level interface."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = WCS(whole, relax=True).celestial.pixel_to_world(x, y).icrs
    return place.ra.deg, place.dec.deg


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS.keys())
def test_positions_are_where_astropy_has_them(changes):
    x, y = (a.ravel() for a in np.meshgrid([0.0, 200.0], [0.0, 240.0]))
    made = Sky(wcs_of([header(**changes)])[0])
    ra, dec = made.to_sky(x, y)
    # 1e-9 degrees: digits that are lost where astropy writes the header anew, precessed once
    np.testing.assert_allclose((ra, dec), astropys(header(**changes), x, y), rtol=0, atol=1e-9)
    np.testing.assert_allclose(made.to_pixels(ra, dec), (x, y), atol=1e-5)  # px; SIP's inverse stops at 1e-6


@pytest.mark.parametrize("key", ["EPOCH", "EQUINOX"])
def test_an_equinox_written_as_text_is_one(key):
    assert wcs_of([header(**{key: "1950.0"})])[0]["EQUINOX"] == 1950
    assert "EQUINOX" not in wcs_of([header(EPOCH="J2000.0")])[0]


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS.keys())
def test_the_same_keywords_in_a_message_mean_the_same(changes):
    cards = {key: value for key, value in (TURNED | changes).items() if value is not None}
    assert Sky(known(cards)).to_sky(10.0, 20.0) == Sky(wcs_of([header(**changes)])[0]).to_sky(10.0, 20.0)


def test_an_epoch_that_may_be_a_date_is_no_equinox():
    assert "EQUINOX" not in wcs_of([header(EPOCH=1998.3)])[0]
    assert wcs_of([header(EPOCH=1950.0, EQUINOX=2000.0)])[0]["EQUINOX"] == 2000


@pytest.mark.parametrize("digits", range(40))
def test_a_blank_between_two_cards_of_iraf_parts_two_numbers(digits):
    cards = {"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"}
    for axis, name in ((1, "ra lng"), (2, "dec lat")):
        which, of = name.split()
        text = f'wtype=tnx axtype={which} {of}cor = "3. 3. 3. 2. -0.0{"2" * (digits + 1)} 0.07 -0.07 0.07'
        text += ' 1.0E-3 2.E-2 1.E-2 1.E-3 3.E-1 1.E-0 "'
        cards |= {f"WAT{axis}_{n // 68 + 1:03d}": text[n : n + 68] for n in range(0, len(text), 68)}
    ra, dec = Sky(wcs_of([header(**cards)])[0]).to_sky(100.0, 120.0)  # as far as 1e-3 degrees off 150, 20
    away = (SCALE * np.hypot(0.5, 0.5) + 1e-3) * np.array([1 / np.cos(np.radians(20)), 1])
    assert np.all(np.abs([ra - 150, dec - 20]) <= away)
    assert abs(dec - 20) > 5e-4


NOWHERE = [
    ({"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB", "PS1_0": "WCS-TAB"}, "CTYPE1 = 'RA---TAB': a table, which"),
    ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "got CTYPE1 = 'LINEAR', CTYPE2 = 'LINEAR'"),
    ({"CTYPE1": "RA--TAN", "CTYPE2": "DEC-TAN"}, "got CTYPE1 = 'RA--TAN', CTYPE2 = 'DEC-TAN'"),
    ({"CTYPE1": None}, "got no CTYPE1"),
    (dict.fromkeys(NO_CD, 0.0), "got a singular CD matrix"),
    (dict.fromkeys(NO_CD, 1e-5), "got a singular CD matrix"),
    (CDELT | {f"PC{i}_{j}": 0.5 for i in (1, 2) for j in (1, 2)}, "got a singular PC matrix"),
    ({"CTYPE2": "DEC--SIN"}, "got keywords that make none: Inconsistent projection types"),
    ({"CRVAL1": "unknown"}, "got CRVAL1 = 'unknown', which is no number"),
]


@pytest.mark.parametrize(("changes", "said"), NOWHERE)
def test_without_sky_positions_there_is_a_note_of_why(changes, said):
    whole = header(**changes)
    keywords, (note,) = wcs_of([whole])
    assert not Sky(keywords)
    assert note.startswith("no sky positions: expected a")
    assert said in note


def test_distortions_in_tables_are_noted_as_left_out():
    assert wcs_of([header(CPDIS1="LOOKUP")])[1] == ("positions without the distortion in tables (CPDIS1)",)
    assert wcs_of([header()])[1] == wcs_of([Header()])[1] == ()


def test_lower_case_and_numbers_as_texts_are_read_as_what_they_say():
    plain = wcs_of([header()])[0]
    texts = {key: str(value) for key, value in plain.items() if isinstance(value, float)}
    assert texts
    assert wcs_of([header(**texts, CTYPE1="ra---tan", CTYPE2="dec--tan")]) == (plain, ())


def test_a_wcs_that_is_none_is_refused_without_wcslibs_own_places():
    with pytest.raises(BadWcs, match="got keywords that make none: Inconsistent projection types"):
        Sky(TURNED | {"CTYPE2": "DEC--SIN"})


def test_coordinates_in_a_table_are_refused_by_name():
    with pytest.raises(BadWcs, match="got CTYPE1 = 'RA---TAB': a table, which is not read"):
        Sky(TURNED | {"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB"})

"""What the headers of other houses say: their conventions, a few keywords of each."""

import math

import numpy as np
import pytest
from astropy.io import fits

from gpudiff.edges.fits import read_frame
from gpudiff.model.frame import Frame

HOUSES = {
    "SDSS": (
        {"DATE-OBS": "2006-09-20", "TAIHMS": "06:01:22.73", "TIMESYS": "TAI", "EXPTIME": "53.907456"}
        | {"FILTER": "g", "FLUX20": 2673.77},
        # its TAI = 4665448882.73 s, and 20 + 2.5 log10(FLUX20)
        {"band": "g", "start": 4665448882.73 / 86400, "exposure": 53.907456, "zero_point": 28.5678},
    ),
    "Suprime-Cam": (
        {"DATE-OBS": "2007-04-23", "UT": "08:04:07", "UT-STR": "08:02:27.204", "TIMESYS": "UTC"}
        | {"FILTER01": "W-S-R+", "DETECTOR": "w67c1", "DET-ID": 3, "FLUXMAG0": 6.3e10},
        {"band": "W-S-R+", "start": 54213 + (28947.204 + 33) / 86400, "detector": 3, "zero_point": 26.9984},
    ),
    "DECam": (
        {"MJD-OBS": 58575.21271276, "TIMESYS": "TAI", "FILTER": "VR DECam c0007 6300.0 2600.0", "EXPTIME": 120.0}
        | {"EXPNUM": 845291, "OBSID": "ct4m20190402t050618", "DETECTOR": "S3-06_123195-15-3", "CCDNUM": 1}
        | {"MAGZERO": 31.227, "MAGZPT": 26.029, "SATURATE": 42423.5},
        {"band": "VR", "visit": 845291, "detector": 1, "zero_point": 31.227, "saturation": 42423.5},
    ),
    "VIRCAM": (
        {"MAGZPT": 23.0, "EXPTIME": 10.0, "ESO INS FILT1 NAME": "Ks", "BUNIT": "ADU"},
        {"band": "Ks", "zero_point": 25.5},
    ),
    **{
        f"a rate in {unit}": ({"MAGZPT": 23.0, "EXPTIME": 10.0, "BUNIT": unit}, {"zero_point": 23.0})
        for unit in ("electron s-1", "electrons/second", "ADU s**-1", "DN s^-1", "counts/sec", "adu.s^(-1)")
    },
    "FORS": (
        {"ESO DET OUT1 CONAD": 1.25, "ESO DET OUT1 GAIN": 0.8, "ESO DET OUT1 RON": 3.2},
        {"gain": 1.25, "read_noise": 3.2},
    ),
    "ZTF": (
        {"OBSMJD": 58300.25, "TIMESYS": "TAI", "READNOI": 10.4, "GAIN": 6.2, "FILTER": "ZTF_g", "CCDID": 11}
        | {"MAGZP": 26.2, "EXPTIME": 30.0},
        {"start": 58300.25, "read_noise": 10.4, "gain": 6.2, "band": "ZTF_g", "detector": 11, "zero_point": 26.2},
    ),
    "PTF": ({"SATURVAL": 55000.0}, {"saturation": 55000.0}),
    "ACS": ({"FILTER1": "CLEAR1L", "FILTER2": "F814W", "CCDGAIN": 2.0}, {"band": "F814W", "gain": None}),
    "WFPC2": (  # FILTER1 and FILTER2 are places in a wheel
        {"FILTER1": 38, "FILTER2": 0, "FILTNAM1": "F606W", "FILTNAM2": "", "EXPTIME": 400.0},
        {"band": "F606W", "exposure": 400.0},
    ),
    "WISE": ({"BAND": 1, "MAGZP": 20.5}, {"band": "1", "zero_point": 20.5}),
    "a wheel without names": ({"FILTER1": 38}, {"band": ""}),
    "NIRISS": (
        {"FILTER": "CLEAR", "PUPIL": "F150W", "XPOSURE": 311.4, "EXPOSURE": "1"},
        {"band": "F150W", "exposure": 311.4},
    ),
    "UVOT": ({"EXPOSURE": 250.5, "FILTER": "UVW1"}, {"exposure": 250.5, "band": "UVW1"}),
    "TESS": ({"EXPOSURE": 0.016, "TIMEUNIT": "d"}, {"exposure": 1382.4}),
    "Pan-STARRS": ({"FPA.FILTER": "i.00000"}, {"band": "i"}),
    "Rubin": (
        {"LSST BUTLER DATAID DETECTOR": 94, "BAND": "i"},
        {"detector": 94, "band": "i"},
    ),
    "no light": ({"EXPTIME": -5.0}, {"exposure": math.nan}),
    "no filter": ({"FILTER": "Clear"}, {"band": "Clear"}),
}


def of(frame: Frame) -> dict:
    seen = frame.observation
    return {
        "band": seen.band,
        "start": seen.mjd_start_tai,
        "exposure": seen.exposure_s,
        "visit": seen.frame.visit,
        "detector": seen.frame.detector,
        "gain": frame.gain,
        "read_noise": frame.read_noise,
        "saturation": frame.saturation,
        "zero_point": frame.zero_point,
    }


@pytest.mark.parametrize(("cards", "expected"), HOUSES.values(), ids=HOUSES.keys())
def test_what_other_houses_write_is_understood(tmp_path, cards, expected):
    long = {f"HIERARCH {key}" if len(key) > 8 else key: value for key, value in cards.items()}
    fits.writeto(tmp_path / "a.fits", np.ones((8, 8), "f4"), fits.Header(long))
    got = of(read_frame(tmp_path / "a.fits"))
    for name, value in expected.items():
        close = 1e-6 if name == "start" else 1e-4  # days, a tenth of a second; a tenth of a millimagnitude
        number = isinstance(value, float)
        assert got[name] == (pytest.approx(value, abs=close, rel=0, nan_ok=True) if number else value), name


def test_a_magnitude_of_a_second_without_an_exposure_time_says_nothing(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.ones((8, 8), "f4"), fits.Header({"MAGZPT": 23.0}))
    frame = read_frame(tmp_path / "a.fits")
    assert frame.zero_point is None
    assert math.isnan(frame.observation.exposure_s)

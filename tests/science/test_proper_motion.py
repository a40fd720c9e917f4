"""gpudiff.science.proper_motion: a weighted line through the positions, one detection at a time."""

import numpy as np
import pytest
from batches import a_sources

from gpudiff.science.objects import new_objects, update
from gpudiff.science.proper_motion import YEAR, shift

ARCSEC = 1 / 3600


def followed(years, east, error, north=0.0):
    """The object of detections at times and places, arcsec."""
    made = None
    for t, x, e in zip(years, east, np.broadcast_to(error, len(years)), strict=True):
        one = a_sources(
            1,
            ra=x * ARCSEC,
            dec=north * ARCSEC * t,
            raErr=e * ARCSEC,
            decErr=e * ARCSEC,
            midpointMjdTai=61000 + YEAR * t,
        )
        made = update(made, one, 0.0) if made else new_objects(one, 0.0)
    return made


def test_the_slope_is_that_of_a_weighted_fit():
    generator = np.random.default_rng(1)
    years, error = np.sort(generator.uniform(0, 5, 12)), generator.uniform(0.05, 0.3, 12)
    east = 0.4 * years + generator.normal(scale=error)
    made = followed(years, east, error)
    slope = np.polyfit(years, east, 1, w=1 / error)[0]
    assert made["pmRa"][0] == pytest.approx(1000 * slope, rel=1e-4)  # float32, updated twelve times
    assert made["positionMjdTai"][0] == pytest.approx(
        61000 + YEAR * np.average(years, weights=error**-2.0), abs=0.01
    )


def test_the_error_holds_the_systematic_floor():
    made = followed([0, 1, 2], [0, 0, 0], 0.05)
    # sum of (t - mean)^2 is 2; 0.05 and a floor of 0.05 make 0.0707
    assert made["pmRaErr"][0] == pytest.approx(1000 * 0.0707 / np.sqrt(2), rel=0.01)


def test_a_significant_motion_shifts_an_object():
    step = shift(followed([0, 1, 2, 3], [0, 0.5, 1.0, 1.5], 0.05, north=-0.2), 61000 + 5 * YEAR)
    np.testing.assert_allclose(step[0], [0.5 * 3.5, -0.2 * 3.5], rtol=1e-3)  # from the mean time, 1.5 years


@pytest.mark.parametrize(
    ("years", "east"),
    [([0, 1, 2], [0, 0.05, 0.0]), ([0, 1], [0, 5.0]), ([0, 0.001, 0.002], [0, 5.0, 10.0])],
    ids=["noise", "two detections", "one night"],
)
def test_what_is_not_significant_shifts_nothing(years, east):
    assert not shift(followed(years, east, 0.05), 61000 + 5 * YEAR).any()


def test_an_unknown_time_leaves_the_motion():
    made = followed([0, 1, 2], [0, 0.5, 1.0], 0.05)
    after = update(made, a_sources(1, ra=0.0, dec=0.0, midpointMjdTai=np.nan), 0.0)
    assert after["pmRa"][0] == made["pmRa"][0]
    assert after["positionMjdTai"][0] == made["positionMjdTai"][0]

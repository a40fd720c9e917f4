"""gpudiff.science.reachable: slew times against a published model's table, and against a scheduler's night."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from gpudiff.edges.next_visit import read_visits
from gpudiff.model.config import Telescope
from gpudiff.science.reachable import NSIDE, horizontal, move_seconds, reachable, slew_seconds

AREA = 41252.96 / (12 * NSIDE**2)
"""Square degrees of a cell."""
AZIMUTH = (0.5, 3.5, 7.0, 15.0, 30.0, 90.0)
TABLE = {
    10: (4.7, 7.8, 11.3, 19.3, 34.3, 94.3),
    40: (4.0, 5.1, 6.0, 10.0, 20.0, 60.0),
    70: (3.8, 4.7, 5.3, 10.0, 20.0, 60.0),
    100: (3.7, 4.5, 5.0, 10.0, 20.0, 60.0),
}
"""Seconds that Rubin's scheduler gives slews in azimuth at altitude 60, by per cent of the mount's performance."""


@pytest.mark.parametrize("per_cent", TABLE)
def test_slews_in_azimuth_take_what_rubin_s_model_says(per_cent):
    share = per_cent / 100
    mount = {"azimuth_speed": min(7, 10 * share), "azimuth_acceleration": 10 * share, "azimuth_jerk": 40 * share}
    telescope = replace(Telescope(), readout_s=0.0, **mount)
    # the table has one decimal
    np.testing.assert_allclose(slew_seconds(telescope, 60, 0, 60, np.array(AZIMUTH)), TABLE[per_cent], atol=0.051)


def test_the_shorter_way_round_is_taken():
    assert slew_seconds(Telescope(), 60, 350, 60, 10) == slew_seconds(Telescope(), 60, 0, 60, 20)


def test_the_slower_axis_counts():
    both = slew_seconds(Telescope(), 40, 0, 55, 8)
    assert both == slew_seconds(Telescope(), 40, 0, 55, 0)
    assert both > slew_seconds(Telescope(), 40, 0, 40, 8)


def test_a_filter_change_and_the_readout_go_on_meanwhile():
    assert slew_seconds(Telescope(), 60, 0, 60, 0) == Telescope().readout_s
    assert slew_seconds(Telescope(), 60, 0, 60, 90, other_filter=True) == 120


def test_an_axis_moves_as_its_limits_allow():
    """Integrated: jerk, acceleration and speed never exceed theirs, and the axis comes to rest at the distance."""
    for distance in (0.01, 0.3, 2.0, 40.0):
        t = float(move_seconds(np.array(distance), 3.5, 3.5, 14.0))
        ramp = min(0.25, (distance / 28) ** (1 / 3))
        peak = (
            min(3.5, 0.5 * 3.5 * (np.sqrt(ramp**2 + 4 * distance / 3.5) - ramp)) if ramp == 0.25 else 14 * ramp**2
        )
        rise = peak / 3.5 + 0.25 if ramp == 0.25 else 2 * ramp
        assert peak * (t - rise) == pytest.approx(distance)  # mean speed of a symmetric rise is half the peak


def test_the_pole_stands_as_high_as_the_latitude():
    altitude, azimuth = horizontal(Telescope(), np.array([0.0]), np.array([-90.0]), 61000.0)
    # the pole of date is up to 10 arcmin from that of ICRS in 2026
    assert altitude[0] == pytest.approx(30.2446, abs=0.2)
    assert azimuth[0] == pytest.approx(180, abs=0.2)


def test_the_sky_in_reach_grows_with_time_and_the_soonest_comes_first():
    near, far = (reachable(Telescope(), 196.0, -21.0, 60483.95, seconds) for seconds in (6.0, 15.0))
    assert set(near.cell) < set(far.cell)
    assert (np.diff(far.seconds) >= 0).all()


def test_nothing_below_the_horizon_is_in_reach():
    reach = reachable(Telescope(), 196.0, -21.0, 60483.95, 1000.0)
    altitude, _ = horizontal(Telescope(), reach.ra, reach.dec, 60483.95)
    assert altitude.min() > 19
    # nearly a hemisphere less the part below 20 degrees: 2 pi (1 - sin 20) sr
    assert len(reach.cell) * AREA == pytest.approx(13570, rel=0.05)


@pytest.mark.real_data
def test_the_next_visits_of_a_night_lie_where_they_can(real_data):
    """The scheduler's model knows no jerk: its slews are up to 0.4 s shorter than ours."""
    from astropy_healpix.healpy import ang2pix

    night = list(read_visits(real_data / "pointings" / "baseline_v2.0_night_60483.csv"))
    inside, area = [], []
    for one, after in list(itertools.pairwise(night))[::12]:
        end = one.start_tai + one.duration_s / 86400
        left = (after.start_tai - end) * 86400 + 0.4
        reach = reachable(Telescope(), one.ra, one.dec, end, left)
        inside.append(ang2pix(NSIDE, after.ra, after.dec, nest=True, lonlat=True) in reach.cell)
        area.append(len(reach.cell) * AREA)
    assert np.mean(inside) >= 0.98
    assert np.median(area) < 250  # square degrees: 1.7 % of what is up

"""Cutouts of real alerts, by the functions of the benchmark that prints their figures."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def stamps(bench):
    return bench("_stamps")


def test_the_width_of_a_moffat_cutout_is_its_fwhm(stamps):
    image = np.pad(stamps.moffat(3.4, 20), 11)
    assert stamps.width(image) == pytest.approx(3.4, abs=0.3)  # its area is counted in whole pixels


@pytest.fixture(scope="module")
def alerts(stamps, real_data):
    """Detections at the middle of every eighth cutout that the survey holds for real."""
    chosen = [one for one in stamps.ztf(real_data, step=8) if float(one[0]["rb"]) > 0.65]
    return [stamps.ztf_detection(*given) for given in chosen]


@pytest.mark.real_data
def test_cutouts_with_a_bright_template_match_the_observatorys_difference_within_0_9_sigma(stamps, real_data):
    residuals = [stamps.rubin_residual(*given) for _, *given in stamps.rubin(real_data)]
    bright = [one["rms"] for one in residuals if one["template_peak"] > 5 and one["light"] >= 10]
    assert len(bright) >= 9
    assert np.median(bright) <= 0.9


@pytest.mark.real_data
def test_unflagged_detections_of_alert_cutouts_have_the_sign_of_the_alert(alerts):
    found = [one for one in alerts if one]
    assert len(found) > 0.8 * len(alerts)
    assert all(one["sign"] for one in found if not one["flagged"])


@pytest.mark.real_data
def test_unflagged_detections_of_alert_cutouts_have_the_flux_of_the_alert(alerts):
    ratio = [one["flux_ratio"] for one in alerts if one and not one["flagged"]]
    # the PSFs are guessed from one source a cutout: 15 % of the flux, and 18 % scatter over a dozen
    assert np.nanmedian(ratio) == pytest.approx(1, abs=0.15)


@pytest.mark.real_data
def test_the_bright_stars_of_the_decam_stack_leave_no_more_peaks_than_in_the_peers_difference(bench, real_data):
    made = bench("real_data").decam(real_data)
    assert made["peaks"][0] <= made["peaks"][1]
    assert made["median_ratio"] < 1.2  # measured 1.10: not yet fainter than the peer's

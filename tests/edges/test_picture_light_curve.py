"""gpudiff.edges.picture_light_curve: which fluxes of an alert are drawn, and as what."""

import pytest
from matplotlib.figure import Figure

from gpudiff.edges.picture_light_curve import draw_light_curve, light_curve


def flux(time, value, error=1.0, band="r"):
    return {"midpointMjdTai": time, "psfFlux": value, "psfFluxErr": error, "band": band}


ALERT = {
    "diaSource": flux(61003.0, 50.0),
    "prvDiaSources": [flux(61001.0, 40.0), flux(None, 30.0)],
    "prvDiaForcedSources": [flux(61000.0, 1.0), flux(61002.0, 9.0, band="g")],
}


def test_detections_and_forced_fluxes_with_a_time_are_points():
    points = light_curve(ALERT)
    assert [(one.mjd_tai, one.flux, one.forced) for one in points] == [
        (61001.0, 40.0, False),
        (61003.0, 50.0, False),
        (61000.0, 1.0, True),
        (61002.0, 9.0, True),
    ]


@pytest.mark.parametrize("alert", [{}, {"diaSource": flux(None, 1.0)}, {"diaSource": flux(1.0, None)}])
def test_an_alert_without_flux_or_time_has_no_light_curve(alert):
    assert light_curve(alert) == []


def test_a_faint_forced_flux_is_drawn_as_an_upper_limit():
    axes = Figure().subplots()
    draw_light_curve(axes, light_curve(ALERT), "nJy")
    labels = {text.get_text() for text in axes.get_legend().get_texts()}
    assert labels == {"r", "g forced", "r below 3 sigma"}
    limit = next(line for line in axes.get_lines() if line.get_label() == "r below 3 sigma")
    assert (limit.get_xdata()[0], limit.get_ydata()[0]) == (61000.0, 3.0)

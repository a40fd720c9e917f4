import dataclasses

import numpy as np
import pytest

from gpudiff.arrays import render
from gpudiff.model.mask import bit
from gpudiff.model.scene import Night, grid
from gpudiff.model.sky import Sky
from gpudiff.science import expose
from gpudiff.science.night import catalogue, visits

PLANE = grid(1, 384)
DETECTOR = PLANE.detectors[0]
QUIET = Night(
    visits=2,
    stars=0,
    galaxies=0,
    cosmic_rays=0,
    bad_columns=0,
    transients=6,
    vanished=2,
    variables=0,
    moving=0,
    snr_low=150,
    snr_high=200,
    sky_gradient=0,
)
"""Nothing but a few bright changes on a flat sky."""


def exposed(night, visit=0, plane=PLANE):
    sky = catalogue(night, 0, plane.detectors[0])
    return expose.frame(night, plane, sky, visits(night)[visit], plane.detectors[0])


def templated(night, plane=PLANE):
    return expose.template(night, plane, catalogue(night, 0, plane.detectors[0]), 0, plane.detectors[0])


def aperture(image, x, y, radius=13.0):
    yy, xx = np.indices(image.shape)
    inside = np.hypot(xx - x, yy - y) <= radius
    return (image[inside] - np.median(image)).sum(), inside.sum()


def test_an_injected_source_has_the_flux_that_the_truth_says():
    frame, truth = exposed(QUIET)
    for row in truth.rows():
        if row["kind"] == "transient":
            total, pixels = aperture(frame.image.astype(float), row["x"], row["y"])
            # 13 px hold 99.6 % of the light; the aperture's noise is 5 sigma of its pixels.
            noise = 5 * np.sqrt(pixels) * 1.4826 * np.median(np.abs(frame.image - np.median(frame.image)))
            assert total == pytest.approx(row["flux"], rel=0.01, abs=noise)


def test_a_vanished_source_is_in_the_template_only():
    frame, truth = exposed(QUIET)
    template = templated(QUIET)
    gone = [row for row in truth.rows() if row["kind"] == "vanished"]
    assert len(gone) == 2
    for row in gone:
        before, _ = aperture(template.image, row["x"], row["y"], 8)
        now, _ = aperture(frame.image.astype(float), row["x"], row["y"], 8)
        assert row["flux"] < 0
        # Transparency differs by a tenth between visit and template; the aperture's noise is a few per cent.
        assert now - before == pytest.approx(row["flux"], rel=0.25)


def test_the_seeing_is_the_one_asked_for():
    night = dataclasses.replace(
        QUIET, seeing=1.2, seeing_spread=0, seeing_variation=0, snr_low=3000, snr_high=4000
    )
    frame, truth = exposed(night)
    row = next(row for row in truth.rows() if row["kind"] == "transient")
    image = frame.image.astype(float) - np.median(frame.image)
    stamp = image[round(row["y"]) - 12 : round(row["y"]) + 13, round(row["x"]) - 12 : round(row["x"]) + 13]
    across = np.sqrt((stamp > 0.5 * stamp.max()).sum() * 4 / np.pi)
    # 6 px: the area above half the peak, give or take the rim's pixels and the ellipticity.
    assert across * night.pixel_scale == pytest.approx(1.2, rel=0.06)


def test_the_ideal_signal_to_noise_is_that_of_a_fit_of_the_true_psf():
    night = dataclasses.replace(QUIET, snr_low=50, snr_high=60, transients=8)
    fluxes = []
    for seed in range(12):
        frame, truth = exposed(dataclasses.replace(night, seed=seed))
        view = expose.View(DETECTOR, PLANE.radius_mm, visits(dataclasses.replace(night, seed=seed))[0].weather)
        for row in (row for row in truth.rows() if row["kind"] == "transient"):
            at = np.array([row["x"]]), np.array([row["y"]])
            image = frame.image * 1.6 - view.sky()
            x0, y0 = round(row["x"]), round(row["y"])
            p = render.stamp(row["x"] - x0, row["y"] - y0, view.psf_shape(*at)[0], expose.moffat_mixture(3.5), 12)
            seen = image[y0 - 12 : y0 + 13, x0 - 12 : x0 + 13]
            variance = view.sky()[0, 0] + p * row["flux"] * 1.6 + 36
            fitted = (p * seen / variance).sum() / (p * p / variance).sum()
            fluxes.append((fitted / 1.6 - row["flux"]) / (row["flux"] / row["snr"]))
    # 96 pulls: their scatter is 1 to 7 % at one sigma.
    assert np.std(fluxes) == pytest.approx(1.0, abs=0.2)
    assert abs(np.mean(fluxes)) < 0.3


def test_the_sky_positions_of_the_truth_are_its_pixels_but_for_the_registration_error():
    for ra, dec in [(150, 2.2), (0.0, -30), (359.99, 60), (12, 90), (77, -90)]:
        frame, truth = exposed(dataclasses.replace(QUIET, ra=ra, dec=dec, rotation=33))
        x, y = Sky(frame.wcs).to_pixels(truth["ra"], truth["dec"])
        assert np.abs(x - truth["x"]).max() < 0.1
        assert np.abs(y - truth["y"]).max() < 0.1


def test_without_registration_error_the_positions_agree():
    frame, truth = exposed(dataclasses.replace(QUIET, registration=0))
    x, y = Sky(frame.wcs).to_pixels(truth["ra"], truth["dec"])
    np.testing.assert_allclose(x, truth["x"], atol=1e-6)
    np.testing.assert_allclose(y, truth["y"], atol=1e-6)


def test_the_boresight_is_the_centre_of_the_focal_plane():
    for plane in (
        PLANE,
        dataclasses.replace(PLANE, detectors=(dataclasses.replace(DETECTOR, yaw_rad=np.pi / 2),)),
    ):
        frame, _ = exposed(QUIET, plane=plane)
        ra, dec = Sky(frame.wcs).to_sky(191.5, 191.5)
        assert (ra, dec) == (pytest.approx(150), pytest.approx(2.2))


def test_neighbouring_detectors_lie_where_the_sky_says():
    plane = grid(4, 384)
    night = dataclasses.replace(QUIET, rotation=20)
    places = []
    for d in plane.detectors:
        cards = expose.wcs(night, 150, 2.2, d)
        places.append([float(v) for v in Sky(cards).to_sky(191.5, 191.5)])
    ra, dec = np.array(places).T
    apart = np.hypot((ra[1] - ra[0]) * np.cos(np.radians(2.2)), dec[1] - dec[0]) * 3600
    assert apart == pytest.approx((384 + 50) * 0.2, rel=1e-4)  # one pitch of the grid


def test_the_template_is_as_deep_as_its_epochs():
    night = dataclasses.replace(QUIET, epochs=8, transients=0, vanished=0, seeing_variation=0)
    frame, _ = exposed(night)
    template = templated(night)
    mean = template.image.mean()
    expected = mean / template.gain + (template.read_noise / template.gain) ** 2
    # 147,456 pixels: a variance is known to 0.4 %.
    assert template.image.var() == pytest.approx(expected, rel=0.03)
    assert frame.image.var() / template.image.var() == pytest.approx(8, rel=0.25)  # the sky level differs


def test_the_frame_has_the_noise_that_gain_and_read_noise_say():
    frame, _ = exposed(dataclasses.replace(QUIET, transients=0, vanished=0))
    expected = frame.image.mean() / frame.gain + (frame.read_noise / frame.gain) ** 2
    assert frame.image.var() == pytest.approx(expected, rel=0.03)  # known to 0.4 %


def test_a_bright_star_saturates_bleeds_and_is_masked():
    night = Night(stars=8000, seed=3, cosmic_rays=0, transients=0, variables=0)
    frame, _ = exposed(night)
    full = frame.image >= frame.saturation
    assert full.any()
    assert (frame.mask[full] & bit("SAT")).all()
    assert frame.image.max() == frame.saturation
    assert (templated(night).mask & bit("SAT")).any()


def test_dead_columns_are_zero_masked_and_the_same_in_every_visit():
    night = dataclasses.replace(QUIET, bad_columns=3)
    first, second = (exposed(night, visit)[0] for visit in (0, 1))
    dead = (first.mask & bit("BAD")) > 0
    assert dead.any()
    assert not first.image[dead].any()
    assert np.array_equal(dead, (second.mask & bit("BAD")) > 0)


def test_cosmic_rays_are_in_the_truth_and_only_if_asked_in_the_mask():
    night = dataclasses.replace(QUIET, cosmic_rays=100)
    frame, truth = exposed(night)
    told, _ = exposed(dataclasses.replace(night, mask_cosmic_rays=True))
    assert (truth["kind"] == "cosmic-ray").sum() > 3
    assert not (frame.mask & bit("CR")).any()
    assert (told.mask & bit("CR")).any()
    assert np.array_equal(frame.image, told.image)


def test_a_transient_keeps_its_place_and_its_id_from_visit_to_visit():
    (_, first), (_, second) = exposed(QUIET), exposed(QUIET, 1)
    assert (first["objectId"] == second["objectId"]).all()
    np.testing.assert_allclose(first["ra"], second["ra"], atol=1e-9)
    assert (first["flux"] != second["flux"]).all()


def test_an_asteroid_moves_by_its_rate_and_trails_by_its_exposure():
    night = dataclasses.replace(QUIET, moving=4, interval=60, exposure=30)
    (_, first), (_, second) = exposed(night), exposed(night, 1)
    for one in (row for row in first.rows() if row["kind"] == "moving"):
        for two in (row for row in second.rows() if row["objectId"] == one["objectId"]):
            moved = np.hypot(two["x"] - one["x"], two["y"] - one["y"])
            # The registration error differs between the visits by up to 0.2 px.
            assert moved == pytest.approx(one["trailLength"] * 2, abs=0.2)


def test_a_variable_is_a_star_that_the_template_has_too():
    night = dataclasses.replace(QUIET, stars=3000, variables=2, seed=4)
    _, truth = exposed(night)
    template = templated(night)
    rows = [row for row in truth.rows() if row["kind"] == "variable"]
    assert len(rows) == 2
    for row in rows:
        assert aperture(template.image, row["x"], row["y"], 4)[0] > 1.5 * abs(row["flux"]) * 0.8


def test_a_change_under_a_dead_column_is_less_usable():
    night = dataclasses.replace(QUIET, bad_columns=300)
    _, truth = exposed(night)
    assert truth["usable"].min() < 0.7
    assert ((truth["usable"] >= 0) & (truth["usable"] <= 1)).all()


def test_the_same_seed_gives_the_same_pixels_and_another_one_others():
    first, again, other = (exposed(Night(seed=seed))[0] for seed in (8, 8, 9))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)

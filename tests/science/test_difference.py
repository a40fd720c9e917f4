"""Science minus matched template."""

import dataclasses

import numpy as np
import pytest

from gpudiff.arrays.artefacts import rough_surface
from gpudiff.model.errors import NoStars
from gpudiff.model.mask import bit

PLANES = ("image", "variance", "mask", "score", "matched", "kernel", "psf", "science_psf", "template_psf")


def residuals(done):
    """Light left within 6 px of each star put in, over the star's flux."""
    out = []
    for y, x, flux in done.pair.stars:
        box = tuple(slice(round(c) - 6, round(c) + 7) for c in (y, x))
        cut = done.difference.image[box]
        if cut.shape == (13, 13) and np.isfinite(cut).all():
            out.append((cut.sum() / flux, np.sqrt(done.difference.variance[box].sum()) / flux))
    return np.array(out).T


def test_static_stars_leave_nothing_but_noise(done):
    left, error = residuals(done)
    # 80 stars: mean 0.11 sigma, scatter 8 %; the PSF flux of bright ones is known to 0.3 % through the kernel.
    assert abs((left / np.hypot(error, 0.003)).mean()) < 0.6
    assert (left / np.hypot(error, 0.003)).std() < 1.35


@pytest.mark.parametrize(
    ("fwhm", "choice", "expected"),
    [
        ((4.6, 3.8), "template", "TEMPLATE"),
        ((4.6, 3.8), "auto", "TEMPLATE"),
        ((3.8, 4.6), "science", "SCIENCE"),
        ((3.8, 4.6), "auto", "SCIENCE"),
        ((4.2, 4.2), "template", "TEMPLATE"),
        ((4.2, 4.2), "science", "SCIENCE"),
    ],
)
def test_each_direction_gives_a_clean_difference_in_science_units(maker, fwhm, choice, expected):
    done = maker.run(maker.pair(fwhm=fwhm, scale=1.4, seed=71), convolve=choice)
    made = done.difference
    assert made.quality.convolved == expected
    assert made.quality.kernel_sum == pytest.approx(1.4, rel=0.02)  # 80 stars, and the fit's wings
    ratio = (made.image / np.sqrt(made.variance))[done.away()]
    assert ratio.std() == pytest.approx(1, abs=0.03)  # 60,000 pixels: 0.3 % a sigma
    assert len(done.unflagged_false()) == 0


def test_a_direction_against_the_seeing_is_taken_when_asked_for(maker):
    done = maker.run(maker.pair(fwhm=(3.8, 4.6), seed=71), convolve="template")
    assert done.difference.quality.convolved == "TEMPLATE"
    assert any("has to sharpen" in note for note in done.difference.notes)
    # A kernel would have to deconvolve: it cannot, and stars leave rings.
    assert len(done.unflagged_false()) <= 2


def test_stars_say_what_they_leave_as_it_was_before_the_variance_was_raised_for_it(maker):
    made = maker.run(maker.pair(fwhm=(3.4, 4.6), seed=71), convolve="template").difference
    assert any("static stars leave" in note for note in made.notes)
    # The brightest tenth is at 4.2; against the raised variance it would be at 1.7.
    assert np.nanpercentile(made.stars["chi2"], 90) > 2


def test_fluxes_are_in_science_units_whatever_is_convolved(maker):
    pair = maker.pair(fwhm=(3.6, 4.6), scale=1.6, transients=24, snr=(20.0, 60.0), seed=72)
    done = maker.run(pair)
    rows = done.nearest()
    ratio = done.sources["psfFlux"][rows[rows >= 0]] / pair.changes[rows >= 0, 2]
    # A mean of 20 fluxes of 20 sigma or more: 1 %.
    assert (rows >= 0).mean() > 0.9
    assert np.median(ratio) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("algorithm", ["alard-lupton", "delta", "zogy"])
@pytest.mark.parametrize("fwhm", [(4.6, 3.8), (3.8, 4.6)])
def test_positions_are_of_the_science_image_though_the_template_is_a_third_of_a_pixel_off(maker, fwhm, algorithm):
    recipe = {"stars": 150, "transients": 24, "snr": (20.0, 60.0), "seed": 79}
    done = maker.run(maker.pair(fwhm=fwhm, shift=(0.3, -0.25), **recipe), algorithm=algorithm)
    rows = done.nearest()
    off = [done.sources[name][rows] - done.pair.changes[:, axis] for axis, name in ((0, "y"), (1, "x"))]
    # The median of 24 sources of about 40 sigma, each known to 0.05 px, is known to 0.013.
    assert np.abs(np.median(np.array(off)[:, rows >= 0], axis=1)).max() < 0.05


def test_the_wings_of_what_changed_are_not_taken_for_sky(maker):
    pair = maker.pair(seed=78, beta=2.5, transients=16, snr=(150.0, 300.0), stars=60)
    made = maker.run(pair).difference
    share = [
        made.image[round(y) - 14 : round(y) + 15, round(x) - 14 : round(x) + 15].sum() / flux
        for y, x, flux in pair.changes
    ]
    # 3 % of a Moffat profile's light lies beyond 14 px; taken for sky, a tenth of what is within would be gone.
    assert np.mean(share) == pytest.approx(0.97, abs=0.02)


def test_no_data_is_set_exactly_where_there_is_no_value(maker):
    def damage(image):
        image[100, 110] = image[200:215, 220:240] = np.nan

    for fwhm in ((4.6, 3.6), (3.6, 4.6)):
        made = maker.run(maker.pair(seed=73, fwhm=fwhm).with_science(damage)).difference
        no_data = (made.mask & bit("NO_DATA")) != 0
        np.testing.assert_array_equal(np.isnan(made.image), no_data)
        np.testing.assert_array_equal(np.isnan(made.variance), no_data)
        assert (made.score[no_data] == 0).all()
        assert np.isfinite(made.score).all()
        assert no_data[207, 230]


def test_a_hole_of_the_template_has_no_value_and_its_surroundings_no_false_detection(maker):
    pair = maker.pair(seed=74)
    image = pair.template.image.copy()
    image[180:210, 150:190] = np.nan
    done = maker.run(dataclasses.replace(pair, template=dataclasses.replace(pair.template, image=image)))
    assert np.isnan(done.difference.image[185:205, 155:185]).all()
    assert np.isfinite(done.difference.image[120:150, 150:190]).all()
    assert len(done.unflagged_false()) == 0


@pytest.mark.parametrize("masked", [True, False])
def test_an_array_with_bad_pixels_all_over_is_subtracted_with_and_without_a_mask_of_them(maker, masked):
    pair, rng = maker.pair(seed=78, transients=20, stars=140), np.random.default_rng(79)
    frames = {}
    for name in ("science", "template"):
        frame, bad = getattr(pair, name), rng.random((384, 384)) < 0.015
        image = frame.image.copy()
        image[bad] = np.where(rng.random(bad.sum()) < 0.5, 0, image[bad] + rng.uniform(200, 30000, bad.sum()))
        mask = bad * np.int32(bit("BAD")) if masked else None
        frames[name] = dataclasses.replace(frame, image=image, mask=mask)
    done = maker.run(dataclasses.replace(pair, **frames))
    found = done.nearest()
    # of 20 one or two have a bad pixel in the core in both images, and are flagged
    assert (found >= 0).sum() >= 18
    assert np.count_nonzero(~done.sources["flagged"][found[found >= 0]]) >= 15
    assert len(done.unflagged_false()) <= 1


def test_masks_of_both_frames_are_carried(maker):
    pair = maker.pair(seed=75)
    masks = [np.zeros((384, 384), np.int32) for _ in range(2)]
    masks[0][100, 100], masks[1][150, 150:153] = bit("INTRP"), bit("STREAK")
    frames = {
        name: dataclasses.replace(getattr(pair, name), mask=mask)
        for name, mask in zip(("science", "template"), masks, strict=True)
    }
    made = maker.run(dataclasses.replace(pair, **frames)).difference
    assert made.mask[100, 100] & bit("INTRP")
    assert (made.mask[150, 150:153] & bit("STREAK")).all()
    assert np.isfinite(made.image[150, 150])


def test_threads_change_no_bit(maker, done):
    two = maker.run(done.pair, threads=2)
    for name in PLANES:
        np.testing.assert_array_equal(getattr(done.difference, name), getattr(two.difference, name))
    for name in done.sources.columns:
        np.testing.assert_array_equal(done.sources[name], two.sources[name])
    assert two.difference.fingerprint == done.difference.fingerprint


@pytest.mark.parametrize("shape", [(301, 257), (128, 128), (150, 400)])
def test_any_size_of_image_is_subtracted(maker, shape):
    pair = maker.pair(seed=76, size=400, stars=110)
    cut = {
        name: dataclasses.replace(getattr(pair, name), image=getattr(pair, name).image[: shape[0], : shape[1]])
        for name in ("science", "template")
    }
    made = maker.run(dataclasses.replace(pair, **cut)).difference
    assert made.image.shape == shape
    inner = made.image[30:-30, 30:-30] / np.sqrt(made.variance[30:-30, 30:-30])
    assert np.isfinite(inner).all()
    # Stars included: their residuals are below a sigma a pixel.
    assert inner[np.abs(inner) < 4.5].std() == pytest.approx(1, abs=0.06)


def test_tile_borders_cannot_be_seen(maker):
    made = maker.run(maker.pair(seed=77, size=512, stars=120, widen=0.08)).difference
    ratio = made.image / np.sqrt(made.variance)
    # Columns' means over 440 rows scatter by 0.05; a tile's border would be a step of many columns.
    means = np.nanmean(np.where(np.abs(ratio) < 5, ratio, np.nan)[36:-36, 36:-36], axis=0)
    smooth = np.convolve(means, np.ones(20) / 20, mode="valid")
    assert np.abs(smooth[20:] - smooth[:-20]).max() < 0.09


def test_psfs_of_difference_and_images_have_unit_sum_and_true_widths(done):
    made = done.difference
    for stack in (made.psf, made.science_psf, made.template_psf, made.matched_psf):
        assert stack.shape[0] == 9
        np.testing.assert_allclose(stack.sum((1, 2)), 1, atol=0.02)  # cut at 15 px
    assert made.matched_psf[4].max() == pytest.approx(made.science_psf[4].max(), rel=0.02)
    assert made.template_psf[4].max() > 1.3 * made.science_psf[4].max()


def test_given_psfs_are_used(maker):
    pair = maker.pair(seed=78, transients=12)
    axis = np.arange(-15, 16)
    psfs = [np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / (f / 2.3548) ** 2) for f in (4.6, 3.6)]
    frames = {
        "science": dataclasses.replace(pair.science, psf=psfs[0]),
        "template": dataclasses.replace(pair.template, psf=np.array([psfs[1]] * 9)),
    }
    done = maker.run(dataclasses.replace(pair, **frames))
    expected = psfs[1] / psfs[1].sum()
    middle = done.difference.template_psf.shape[1] // 2
    found = done.difference.template_psf[4][middle - 9 : middle + 10, middle - 9 : middle + 10]
    np.testing.assert_allclose(found, expected[6:25, 6:25], atol=1e-3 * expected.max())
    assert (done.nearest() >= 0).all()


def test_the_notes_of_both_exposures_are_passed_on(done):
    assert "variance from gain 1.5 and read noise 6 e-" in done.difference.notes
    assert "template: variance from gain 1.5 and read noise 6 e-" in done.difference.notes


def test_frames_without_stars_are_refused(maker):
    with pytest.raises(NoStars):
        maker.run(maker.pair(stars=0, seed=79))


def test_quality_counts_what_was_lost(done):
    usable = np.isfinite(done.pair.science.image)
    lost = np.isnan(done.difference.image) & usable
    assert done.difference.quality.lost_fraction == pytest.approx(lost.sum() / usable.sum(), abs=1e-6)


def rough(shape, rms, scale=40.0):
    """Sky of that rms, uneven over some 60 px."""
    return (rms * rough_surface(shape, scale, np.random.default_rng(7))).astype(np.float32)


def test_a_sky_that_is_no_low_order_surface_is_taken_out_and_the_kernel_matched_without_it(maker):
    pair = maker.pair(seed=79, transients=8, snr=(20.0, 40.0))
    done = maker.run(pair.with_science(lambda image: image.__iadd__(rough(image.shape, 10.0))))
    assert any("low-order surface" in note for note in done.difference.notes)
    values = done.difference.score[done.away()]
    # 0.7 sigma a pixel, 5 in the score, before.  What is left: the mesh's own noise of two per cent.
    assert values[np.abs(values) < 4.5].std() == pytest.approx(1, abs=0.06)
    assert len(done.unflagged_false()) == 0
    rows = done.nearest()
    assert (rows >= 0).all()
    ratio = done.sources["psfFlux"][rows] / pair.changes[:, 2]
    assert np.median(ratio) == pytest.approx(1, abs=0.05)  # 8 fluxes of 20 sigma or more


def test_the_heights_and_depths_of_an_uneven_sky_are_taken_out_whole(maker):
    pair = maker.pair(seed=79)
    sky = rough(pair.science.image.shape, 20.0, 80.0)
    done = maker.run(pair.with_science(lambda image: image.__iadd__(sky)))
    far = done.away() & (np.abs(sky) > 20)
    # 0.06 where its outliers are told from zero, one sigma a pixel off.
    assert abs((done.difference.score * np.sign(sky))[far].mean()) < 0.03


def test_the_wide_light_of_what_changed_is_not_in_the_noise(maker):
    wide = {"fwhm": (16, 14), "stars": 20, "star_flux": (1e5, 1e6), "widen": 0}
    done = maker.run(maker.pair(seed=2, size=640, transients=16, snr=(20, 60), **wide))
    # 130,000 pixels: 0.2 %, and of the score some 800 independent ones: 2.5 %.  With that light 1.012 and 1.046.
    assert done.difference.quality.noise_ratio == pytest.approx(1, abs=0.006)
    assert done.difference.quality.score_std == pytest.approx(1, abs=0.04)


def test_the_kernel_is_matched_once_where_the_sky_is_smooth(done):
    assert not any("low-order surface" in note for note in done.difference.notes)


def test_the_psf_of_a_difference_has_the_light_that_wings_throw_beyond_a_kernel(maker):
    done = maker.run(maker.pair(beta=2.5, widen=0.0, star_flux=(2e4, 5e5)))
    psf = done.difference.matched_psf.mean(0, dtype=float)
    half = len(psf) // 2
    core = (slice(half - 8, half + 9),) * 2
    model = psf[core]
    truth = maker.profile(done.pair.recipe, 4.6, 0, 0, *np.mgrid[-half : half + 1, -half : half + 1])[core]
    # By this much fluxes are too large.  100 stars give it to 0.2 %; with the kernel's light alone it is -0.8 %.
    assert (truth * model).sum() / (model * model).sum() - 1 == pytest.approx(0, abs=0.005)

"""From a frame to an exposure."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from skies import CONFIGURATION, GAIN, READ, SKY, VARIANCE, frame, pixels, refused, sky_variance, star

from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import BadGain, BadVariance, ConstantImage, NoUsablePixels, WrongShape
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import bit
from gpudiff.science.calibrate import calibrate


# ---------------------------------------------------------------- sky
def test_the_sky_is_removed():
    made = calibrate(frame(), CONFIGURATION)
    # 65,536 pixels of sigma 12.5: 0.05; the mode triples it.
    assert abs(np.median(made.image)) < 0.5
    assert made.sky.cut(0, 256, 0, 256).mean() == pytest.approx(SKY, abs=0.5)


def test_a_sky_gradient_is_removed():
    ramp = np.linspace(0, 60, 256, dtype=np.float32)
    made = calibrate(frame(pixels() + ramp), CONFIGURATION)
    assert abs(np.median(made.image[:, :30])) < 1.5  # 7,680 pixels of sigma 12.5, and the surface's own error
    assert abs(np.median(made.image[:, -30:])) < 1.5


def test_the_frame_itself_is_not_changed():
    given = frame(mask=np.zeros((256, 256), np.int32))
    given.image[3, 4] = np.nan
    before = given.image.copy()
    calibrate(given, CONFIGURATION)
    np.testing.assert_array_equal(given.image, before)
    assert not given.mask.any()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("flaw", [None, np.nan, np.inf])
def test_a_frame_that_is_not_used_up_keeps_its_pixels(flaw, order):
    image = np.asarray(pixels(), order=order)
    if flaw:
        image[7, 9:12] = flaw
    before = image.copy()
    made = calibrate(frame(image), CONFIGURATION)
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(made.image, image)
    assert np.isfinite(made.image).all()


def test_a_frame_that_is_used_up_lends_its_pixels_and_gives_the_same():
    apart = calibrate(frame(), CONFIGURATION)
    given = frame()
    made = calibrate(given, CONFIGURATION, used_up=True)
    assert np.shares_memory(made.image, given.image)
    np.testing.assert_array_equal(made.image, apart.image)
    np.testing.assert_array_equal(made.mask, apart.mask)


def test_pixels_that_cannot_be_written_in_place_are_not_lent():
    given = frame(np.repeat(pixels(), 2, 1)[:, ::2])  # every second column of a wider image
    before = given.image.copy()
    calibrate(given, CONFIGURATION, used_up=True)
    np.testing.assert_array_equal(given.image, before)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "<f8"])
def test_any_byte_order_and_integer_pixels_are_taken(dtype):
    made = calibrate(frame(np.maximum(pixels(), 0).astype(dtype)), CONFIGURATION)
    assert made.image.dtype == np.float32
    assert made.image.dtype.isnative
    assert abs(np.median(made.image)) < 1  # whole numbers


def test_bytes_in_the_wrong_order_are_told():
    given = np.rint(pixels()).astype(np.uint16).byteswap()
    refused(NoUsablePixels, "byte order of FITS", frame(given))


# ---------------------------------------------------------------- variance
def through_a_lens(gain, seed=7, shape=(512, 512)):
    """A sky whose light a lens lost, half of it in the corners, and a flat field gave back: (frame, variance)."""
    row, column = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    share, rng = 1 - 0.25 * (row**2 + column**2), np.random.default_rng(seed)
    raw = rng.poisson(SKY * GAIN * share) + rng.normal(0, READ, share.shape)
    return frame((raw / share / GAIN).astype(np.float32), gain=gain), (
        SKY * share + READ**2 / GAIN
    ) / GAIN / share**2


@pytest.mark.parametrize("gain", [GAIN, None])
def test_noise_that_a_flat_field_raised_is_followed(gain):
    given, truth = through_a_lens(gain)
    made = calibrate(given, CONFIGURATION)
    assert "flat field" in made.notes[-1]
    # cells of 64 px scatter by 7 %, the surface through 64 of them in a corner as much; read noise is raised twice
    np.testing.assert_allclose(sky_variance(made), truth, rtol=0.16)


def test_that_noise_is_followed_in_a_frame_of_any_shape():
    given, truth = through_a_lens(GAIN, 8, (540, 1170))  # 8.4 and 18.3 cells
    made = calibrate(given, override(CONFIGURATION, "calibrate", sky_cell=64))
    assert "flat field" in made.notes[-1]
    np.testing.assert_allclose(sky_variance(made), truth, rtol=0.16)  # as above, from more cells


def test_a_crowd_in_the_middle_is_no_flat_field():
    """As a globular cluster: each cell's histogram widens, neighbouring pixels do not."""
    image, rng = pixels((512, 512)), np.random.default_rng(8)
    y, x = rng.normal(256, 110, (2, 4000)).astype(int) % 512
    light = np.zeros_like(image)
    np.add.at(light, (y, x), rng.exponential(4000, 4000).astype(np.float32))
    made = calibrate(frame(image + ndimage.gaussian_filter(light, 3.0)), CONFIGURATION)
    assert not any("flat field" in note for note in made.notes)


def test_a_steep_sky_does_not_belie_gain_and_read_noise():
    ramp = np.linspace(0, 1500, 256, dtype=np.float32)  # 190 in a cell of 32 px, where the noise is 12.5 to 30
    image = (np.random.default_rng(2).poisson((SKY + ramp) * GAIN, (256, 256)) / GAIN).astype(np.float32)
    made = calibrate(frame(image, read_noise=0.0), CONFIGURATION)
    assert made.variance_known
    # The order-2 surface of the sky, whose cells the ramp widens.
    np.testing.assert_allclose(sky_variance(made)[128], (SKY + ramp) / GAIN, rtol=0.1)


def test_rows_with_an_offset_of_their_own_are_noise():
    rows = np.random.default_rng(3).normal(0, 25, (256, 1)).astype(np.float32)
    assert not calibrate(frame(pixels() + rows), CONFIGURATION).variance_known


def test_variance_from_gain_and_read_noise_says_so():
    made = calibrate(frame(), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), VARIANCE, rtol=0.01)
    assert made.gain == GAIN
    assert made.variance_known
    assert "variance from gain 2 and read noise 5 e-" in made.notes


def test_a_sky_that_was_removed_before_has_its_scatter_measured():
    made = calibrate(frame(pixels() - SKY), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), VARIANCE, rtol=0.05)
    assert not made.variance_known
    assert any("measured" in note and "sky removed before" in note for note in made.notes)


def test_without_gain_the_variance_is_measured_and_the_gain_estimated():
    made = calibrate(frame(gain=None, read_noise=None), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), VARIANCE, rtol=0.05)
    assert made.gain == pytest.approx(SKY / VARIANCE, rel=0.06)
    assert not made.variance_known
    assert any("variance measured from the sky" in note for note in made.notes)
    assert any("gain not given" in note for note in made.notes)


def test_without_gain_and_sky_the_gain_is_unknown_and_that_is_said():
    made = calibrate(frame(pixels() - SKY, gain=None, read_noise=None), CONFIGURATION)
    assert made.gain == np.inf
    assert any("unknown gain" in note for note in made.notes)


@pytest.mark.parametrize("sky", [0.0, SKY])
def test_a_gain_that_would_make_far_more_noise_than_there_is_is_not_taken(sky):
    """The detector's gain, in the header of an image that is per second, or a mean of many."""
    made = calibrate(frame((pixels() - SKY + sky) / 300), CONFIGURATION)
    assert made.gain == (pytest.approx(300 * SKY / VARIANCE, rel=0.06) if sky else np.inf)
    assert "gain 2 and read noise 5 e- give: they are not taken" in made.notes[0]


def test_a_gain_that_would_make_far_less_noise_than_there_is_is_not_taken():
    """A camera's setting that its header calls a gain."""
    made = calibrate(frame(gain=120.0), CONFIGURATION)
    assert made.gain == pytest.approx(SKY / VARIANCE, rel=0.06)
    assert "gain 120 and read noise 5 e- give: they are not taken" in made.notes[0]


@pytest.mark.parametrize("pedestal", [0.5, 6.0])
def test_no_gain_is_estimated_from_a_sky_that_was_removed_nearly(pedestal):
    assert calibrate(frame(pixels() - SKY + pedestal, gain=None), CONFIGURATION).gain == np.inf


def test_an_image_of_electrons_a_second_says_its_gain():
    seen = Observation(FrameId(1, 0, 2), exposure_s=300.0)
    image = ((pixels() - SKY) * GAIN / 300).astype(np.float32)
    given = dataclasses.replace(frame(image, gain=None, unit="electron/s"), observation=seen)
    assert calibrate(given, CONFIGURATION).gain == 300.0


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_few_pixels_of_impossible_variance_have_no_data(value):
    plane = np.full((256, 256), VARIANCE, np.float32)
    plane[20:24, 30:34] = value
    made = calibrate(frame(variance=plane), CONFIGURATION)
    assert (made.mask[20:24, 30:34] & bit("NO_DATA")).all()
    assert (made.mask != 0).sum() == 16
    assert np.isfinite(sky_variance(made)).all()


def test_impossible_variance_under_a_harmless_mask_plane_has_no_data_too():
    plane, mask = np.full((256, 256), VARIANCE, np.float32), np.zeros((256, 256), np.int32)
    plane[:, 100:140] *= 4
    plane[50, 60], mask[50, 60] = np.nan, bit("DETECTED")
    made = calibrate(frame(variance=plane, mask=mask), CONFIGURATION)
    assert made.mask[50, 60] & bit("NO_DATA")


# ---------------------------------------------------------------- mask
def test_a_pixel_without_a_value_that_lies_alone_is_bad_and_gets_one_from_round_it():
    image = pixels() + star()
    image[118, 131] = np.nan
    image[30:40, 30:40] = np.nan
    made = calibrate(frame(image), CONFIGURATION)
    assert made.mask[118, 131] == bit("BAD", "NO_DATA")
    assert made.unusable[118, 131]
    there = made.image[117:120, 130:133]
    assert there[1, 1] == pytest.approx(there[[0, 1, 1, 2], [1, 0, 2, 1]].mean(), rel=0.1)  # of a curved slope
    assert (made.mask[30:40, 30:40] == bit("NO_DATA")).all()
    assert not made.image[32:38, 32:38].any()


def test_a_saturated_pixel_is_a_stars_where_there_is_light_beside_it():
    image = pixels() + star(flux=6e4 * 2 * np.pi * 2.0**2)
    image[50, 60] = image[120, 20] = 61000
    made = calibrate(frame(image, saturation=60000.0), CONFIGURATION)
    assert made.mask[50, 60] == made.mask[120, 20] == bit("BAD")
    assert made.mask[120, 130] == bit("SAT")


def test_a_cosmic_ray_that_the_mask_names_is_filled_and_no_bad_pixel():
    image, mask = pixels(), np.zeros((256, 256), np.int32)
    mask[50, 60:62] = bit("CR")
    image[50, 60], image[50, 61] = 3000, 61000
    made = calibrate(frame(image, mask=mask, saturation=60000.0), CONFIGURATION)
    assert (made.mask[50, 60:62] == bit("CR")).all()
    assert np.abs(made.image[50, 60:62]).max() < 50  # of neighbours of sigma 12


def test_three_saturated_pixels_in_a_column_are_a_stars_where_there_is_light_on_their_sides():
    image = pixels() + star(flux=1e6)
    image[119:122, 130] = image[49:52, 60] = 61000
    made = calibrate(frame(image, saturation=60000.0), CONFIGURATION)
    assert (made.mask[119:122, 130] == bit("SAT")).all()
    assert (made.mask[49:52, 60] == bit("BAD")).all()


def test_where_the_rows_that_are_looked_at_have_no_value_the_others_tell_the_sky():
    pixels = np.random.default_rng(5).normal(400, 12, (1024, 1024)).astype(np.float32)
    pixels[::4] = np.nan
    made = calibrate(Frame("frame", Observation(FrameId(1, 0, 3)), pixels, gain=2.8), Configuration())
    # 2.5 medians less 1.5 means of 12,000 pixels: known to 0.3, a quarter of which is the surface's.
    np.testing.assert_allclose(made.sky.grid, 400, atol=1.0)


def test_pixels_that_are_not_finite_are_masked_and_counted():
    image = pixels()
    image[5, 6], image[7, 8], image[9, 10] = np.nan, np.inf, -np.inf
    made = calibrate(frame(image), CONFIGURATION)
    assert sorted(zip(*np.nonzero(made.mask & bit("NO_DATA")), strict=True)) == [(5, 6), (7, 8), (9, 10)]
    assert np.isfinite(made.image).all()
    assert "3 non-finite pixels masked" in made.notes


@pytest.mark.parametrize("value", [0.0, -999.0])
def test_areas_without_noise_are_masked_and_said(value):
    image = pixels()
    image[:40] = value
    made = calibrate(frame(image), CONFIGURATION)
    np.testing.assert_array_equal((made.mask & bit("NO_DATA")) != 0, image == value)
    assert f"10240 pixels masked: areas of one value ({value:g}), without noise" in made.notes


def test_variance_is_not_asked_of_areas_without_noise():
    image, variance = pixels(), np.full((256, 256), VARIANCE, np.float32)
    image[:40] = variance[:40] = 0
    assert calibrate(frame(image, variance=variance), CONFIGURATION).variance_known


def test_pixels_far_below_those_round_them_are_bad():
    image = pixels()
    image[40, 50], image[100:, 70] = 0.0, 100.0
    made = calibrate(frame(image), CONFIGURATION)
    assert np.count_nonzero(made.unusable) == 157
    assert made.mask[40, 50] == made.mask[255, 70] == bit("BAD")
    assert made.flaws.tolist() == np.flatnonzero(made.unusable).tolist()
    assert "157 pixels masked: far below those round them" in made.notes[1]


@pytest.mark.parametrize("width", [2, 3])
def test_dead_columns_and_rows_side_by_side_are_bad(width):
    image, bad = pixels() + star(flux=2e5), np.zeros((256, 256), bool)
    bad[100:, 70 : 70 + width] = bad[30 : 30 + width, :200] = bad[:, 131 : 131 + width] = True
    image[bad] = 0
    made = calibrate(frame(image), CONFIGURATION)
    crossing = np.zeros((256, 256), bool)
    crossing[25:39, 65:79] = crossing[25:39, 126:140] = True  # neighbours are dead there too
    np.testing.assert_array_equal(made.unusable & ~crossing, bad & ~crossing)


@pytest.mark.parametrize("sigma", [1.0, 1.2, 1.6])
@pytest.mark.parametrize("flux", [2e3, 2e4, 2e5])
def test_a_narrow_hole_as_wide_as_a_star_is_not_bad_whatever_its_depth(sigma, flux):
    image = pixels() - star(flux=flux, sigma=sigma, x=130.3, y=120.4).astype(np.float32)
    assert not calibrate(frame(image), CONFIGURATION).unusable.any()


def test_a_dark_part_of_the_sky_is_not_bad():
    image = pixels()
    image[:10] -= 200
    assert not calibrate(frame(image, gain=None), CONFIGURATION).unusable.any()


def test_a_hole_as_wide_as_a_star_is_not_bad():
    image = pixels() - star(flux=2e4).astype(np.float32)
    assert image.min() < SKY - 8 * np.sqrt(VARIANCE)
    assert not calibrate(frame(image), CONFIGURATION).unusable.any()


def test_saturated_pixels_are_masked_from_the_level_given():
    image = pixels() + star(flux=2e6).astype(np.float32)
    made = calibrate(frame(image, saturation=30000.0), CONFIGURATION)
    assert (made.mask[image >= 30000] & bit("SAT")).all()
    assert not (made.mask[image < 29000] & bit("SAT")).any()  # pixels from 98 % of it on are not linear
    assert (made.image[image >= 30000] == 0).all()


def test_a_plateau_of_the_brightest_pixels_is_taken_for_saturation_and_said():
    image = np.minimum(pixels() + star(flux=2e6).astype(np.float32), 40000)
    made = calibrate(frame(image), CONFIGURATION)
    assert (made.mask[image == 40000] & bit("SAT")).all()
    assert any("saturation not given: taken as 40000" in note for note in made.notes)


def test_a_bright_star_without_a_plateau_is_not_saturated():
    made = calibrate(frame(pixels() + star(flux=2e6).astype(np.float32)), CONFIGURATION)
    assert not (made.mask & bit("SAT")).any()


def test_a_given_mask_is_carried_and_its_bad_pixels_are_not_sky():
    image, mask = pixels(), np.zeros((256, 256), np.int32)
    image[:, :60], mask[:, :60] = 1e5, bit("BAD")
    made = calibrate(frame(image, mask=mask, saturation=2e5), CONFIGURATION)
    np.testing.assert_array_equal(made.mask, mask)
    assert abs(np.median(made.image[:, 70:])) < 0.5


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize("shape", [(63, 300), (300, 63), (3, 200, 200), (500,)])
def test_an_image_too_small_or_not_flat_is_refused(shape):
    refused(WrongShape, "expected an image of at least 64 x 64", frame(np.ones(shape, np.float32)))


@pytest.mark.parametrize("plane", ["mask", "variance"])
def test_planes_of_another_shape_are_refused(plane):
    given = frame(**{plane: np.ones((256, 255), np.float32 if plane == "variance" else np.int32)})
    refused(WrongShape, plane, given)


@pytest.mark.parametrize(
    "values",
    [{"gain": 0.0}, {"gain": -1.0}, {"gain": np.nan}, {"gain": 1e9}, {"read_noise": -1.0}, {"saturation": 0.0}],
)
def test_numbers_that_cannot_be_are_refused(values):
    refused(BadGain, "expected a", frame(**values))


@pytest.mark.parametrize("rows", [256, 128])
def test_an_image_of_nan_is_refused(rows):
    image = pixels()
    image[:rows] = np.nan
    refused(NoUsablePixels, "expected at least 60%", frame(image))


def test_what_left_too_few_pixels_is_said():
    image = pixels()
    image[:200] = 0
    with pytest.raises(NoUsablePixels, match=r"got 2\d\.\d%; 5\d+ pixels masked: areas of one value \(0\)"):
        calibrate(frame(image), CONFIGURATION)


def test_a_saturation_below_the_sky_is_named():
    refused(NoUsablePixels, r"got 0\.0%; 100\.0% saturated, at 100 \(", frame(saturation=100.0))


def test_how_much_must_be_usable_is_configured():
    image = pixels()
    image[:128] = np.nan
    lenient = override(CONFIGURATION, "calibrate", min_usable_fraction=0.4)
    assert np.isfinite(calibrate(frame(image), lenient).image).all()


@pytest.mark.parametrize("gain", [None, GAIN])
def test_a_constant_image_is_refused(gain):
    refused(ConstantImage, "expected", frame(np.full((256, 256), 7, np.float32), gain=gain))


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan])
def test_a_variance_plane_that_cannot_be_is_refused(value):
    refused(BadVariance, "positive variance", frame(variance=np.full((256, 256), value, np.float32)))


@pytest.mark.parametrize("unit", [1e-18, 1e14])
def test_units_whose_squares_no_float_holds_are_refused(unit):
    refused(BadVariance, "sky noise between", frame((pixels() * unit).astype(np.float32), gain=None))


def test_threads_change_nothing():
    given = frame(pixels((500, 400)))
    one, two = (calibrate(given, override(CONFIGURATION, "match", threads=n)) for n in (1, 2))
    for name in ("image", "mask"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert dataclasses.astuple(one)[6:] == dataclasses.astuple(two)[6:]


def test_the_exposure_does_not_hold_the_planes_it_was_made_of():
    made = calibrate(frame(mask=np.zeros((256, 256), np.int32), digest="ab"), CONFIGURATION)
    assert (made.frame.image.size, made.frame.mask, made.frame.digest) == (0, None, "ab")


def test_fill_values_as_large_as_a_float_holds_are_no_light():
    image = pixels()
    image[40:44, 50:60] = np.finfo(np.float32).max
    made = calibrate(frame(image), CONFIGURATION)
    assert (made.mask[40:44, 50:60] & bit("NO_DATA")).all()
    assert np.abs(made.image).max() < 200


def test_the_noise_of_stars_tells_the_gain_where_the_sky_cannot():
    rng = np.random.default_rng(83)
    light = sum(star((512, 512), y=y, x=x, flux=5e3) for y, x in rng.uniform(10, 500, (80, 2)))
    image = ((rng.poisson(light + 4) + rng.normal(0, 3, light.shape)) / GAIN).astype(np.float32)
    exposure = calibrate(frame(image, gain=None, read_noise=None), CONFIGURATION)
    assert exposure.gain == pytest.approx(GAIN, rel=0.3)  # scatters in classes of light, to 3 % each
    assert any("from the scatter in the light of sources" in note for note in exposure.notes)


def mean_of(count, sky, seed=84):
    """(H, W) ADU: the mean of exposures of 80 stars."""
    rng = np.random.default_rng(seed)
    light = sky + sum(star((512, 512), y=y, x=x, flux=8e4) for y, x in rng.uniform(10, 500, (80, 2)))
    electrons = rng.poisson(light * GAIN * count) + rng.normal(0, READ * count**0.5, light.shape)
    return (electrons / (GAIN * count)).astype(np.float32)


@pytest.mark.parametrize("removed", [0, SKY])
def test_the_gain_of_one_exposure_is_not_taken_for_a_mean_of_many(removed):
    made = calibrate(frame(mean_of(6, SKY) - removed), CONFIGURATION)
    # With its sky, all of one exposure's read noise makes it 8 % too small; stars alone say half of it, and more.
    assert (0.4 if removed else 0.9) < made.gain / (6 * GAIN) < 1.1
    assert "stars are less noisy too" in made.notes[-1]


def test_the_gain_of_a_sky_that_was_removed_or_resampled_is_kept():
    smooth = ndimage.shift(mean_of(1, SKY), (0.4, 0.4), order=1, mode="nearest")
    for image in (mean_of(1, SKY) - SKY, mean_of(1, SKY) - 0.6 * SKY, mean_of(1, SKY) + 2 * SKY, smooth):
        assert calibrate(frame(image), CONFIGURATION).gain == GAIN


def test_few_photons_tell_the_gain_that_nobody_said():
    image = 0.25 * np.random.default_rng(82).poisson(0.5, (512, 512)).astype(np.float32)
    exposure = calibrate(frame(image, gain=None, read_noise=None), CONFIGURATION)
    assert exposure.gain == pytest.approx(4)
    assert exposure.variance_known


def test_a_sky_of_few_electrons_is_not_taken_for_the_mode_of_its_lopsided_noise():
    rng = np.random.default_rng(82)
    image = (rng.poisson(1.0, (512, 512)) + rng.normal(0, 0.3, (512, 512))) / 1.6
    exposure = calibrate(frame(image.astype(np.float32), gain=1.6, read_noise=0.3), CONFIGURATION)
    # 262,144 pixels: 0.3 % a sigma; pixels beyond 5 sigma, and squares beyond 3, hold 1 % of so few counts
    assert sky_variance(exposure).mean() == pytest.approx(1.09 / 1.6**2, rel=0.03)
    assert exposure.sky.at(np.array([256]), np.array([256]))[0] == pytest.approx(1 / 1.6, rel=0.03)


@pytest.mark.parametrize("counts", [0.3, 0.5, 0.8, 2.0])
def test_a_sky_of_few_photons_is_a_sky(counts):
    image = np.random.default_rng(81).poisson(counts, (512, 512)).astype(np.float32)
    exposure = calibrate(frame(image, gain=1.0, read_noise=0.0), Configuration())
    # 262,144 pixels: 0.3 % a sigma; beyond 5 sigma 0.5 % of the light of so few counts is left out
    assert exposure.sky.at(np.array([256]), np.array([256]))[0] == pytest.approx(counts, rel=0.04)
    assert exposure.sky_variance.at(np.array([256]), np.array([256]))[0] == pytest.approx(counts, rel=0.04)

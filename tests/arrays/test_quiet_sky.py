"""Where a difference shows sky alone, and what is left there."""

import numpy as np
import pytest

from gpudiff.arrays.quiet_sky import (
    changed,
    changed_cuda,
    light,
    quiet_sky,
    quiet_sky_again,
    quiet_sky_again_cuda,
    quiet_sky_cuda,
    sigmas,
    sigmas_cuda,
)
from gpudiff.arrays.residual_sky import CELLS
from gpudiff.arrays.tiles import tiles


def planes(shape, seed=1):
    """(image, variance, model, lost) of noise with a star in the model and a change in the image."""
    rng = np.random.default_rng(seed)
    image, variance = rng.normal(0, 2, shape).astype(np.float32), rng.uniform(3, 5, shape).astype(np.float32)
    model = rng.normal(0, 0.3, shape).astype(np.float32)
    model[..., 10:14, 20:24] += 30
    image[..., 30:33, 40:43] += 20
    return image, variance, model, rng.random(shape) < 0.02


def test_stars_and_lost_pixels_are_no_blank_sky():
    made = planes((64, 64))
    blank, _ = quiet_sky(*made, 0.6, 5)
    assert not blank[10:14, 20:24].any()
    assert not blank[made[3]].any()
    assert blank[40:].mean() > 0.9


def test_what_changed_and_its_surroundings_are_not_summed():
    made = planes((64, 64))
    _, (sums, number) = quiet_sky(*made, 0.6, 5)
    assert number[7:9, 9:11].max() == 0  # cells of 4 px
    assert number.sum() == pytest.approx(64 * 64 - 19 * 19, rel=0.1)
    assert np.abs(sums).max() < 5 * 2 * 4  # five sigma of 16 pixels of noise


def test_a_structured_sky_is_no_change():
    image = np.repeat(np.linspace(0, 20, 128, dtype=np.float32)[None], 128, 0)
    assert not light(image, np.ones_like(image), np.ones(image.shape, bool), 5).any()


def test_what_changed_is_marked_with_what_is_near_it_and_the_lost_is_not():
    image = np.zeros((64, 64), np.float32)
    image[30, 40], image[5, 5] = 30, 1e9  # a seventh of it, of a mean's sigma
    lost = np.zeros(image.shape, bool)
    lost[5, 5] = True
    marks = changed(image, np.ones_like(image), lost)
    assert marks[20:41, 30:51].all()  # 3 px of the mean, 7 of the neighbourhood
    assert marks.sum() == 21 * 21


def test_where_the_sky_is_known_its_heights_are_no_outliers():
    sky = np.repeat(np.linspace(0, 20, 64, dtype=np.float32)[None], 64, 0)
    given = sky, np.ones_like(sky), np.zeros_like(sky), np.zeros(sky.shape, bool), 0.6
    none = np.zeros(sky.shape, bool)
    assert quiet_sky_again(*given, sky, none)[1][1].sum() == sky.size
    assert quiet_sky_again(*given, 0 * sky, none)[1][1].sum() < 0.2 * sky.size
    assert quiet_sky_again(*given, sky, ~none)[1][1].sum() == 0


def test_sigmas_are_of_blank_sky_without_its_outliers():
    image, blank = np.array([[2.0, -4.0, 9.0, 1.0]], np.float32), np.array([[True, True, True, False]])
    np.testing.assert_array_equal(sigmas(image, np.full_like(image, 4), blank, 4.5), [[1, -2, np.nan, np.nan]])


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize(
    ("batch", "shape", "side"), [(1, (70, 90), 64), (2, (35, 41), 64), (9, (12, 50), 64), (1, (66, 70), 256)]
)
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape, side):
    made = planes((batch, *shape), batch)
    limits, reaches = np.linspace(0.5, 0.7, batch), np.arange(batch) + 3
    pieces = tiles(shape, side, 4)
    there = [launcher.upload(plane, np.uint8 if plane.dtype == bool else np.float32) for plane in made]
    blank, sums = quiet_sky_cuda(launcher, tuple(there), pieces, limits, reaches)
    blank = launcher.download(blank).view(bool)
    assert sums.shape == (batch, len(pieces), 2, CELLS, CELLS)
    for n in range(batch):
        for tile in pieces:
            core = [plane[n][tile.core] for plane in made]
            expected, (total, number) = quiet_sky(*core, limits[n], reaches[n])
            np.testing.assert_array_equal(blank[n][tile.core], expected)
            np.testing.assert_array_equal(sums[n, tile.index, 1], number)
            # Some 100 values of 2 in float32, added in another order.
            np.testing.assert_allclose(sums[n, tile.index, 0], total, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("batch", "shape", "side"), [(1, (70, 90), 64), (2, (35, 41), 64)])
def test_cuda_body_agrees_where_the_sky_is_known(launcher, batch, shape, side):
    made = planes((batch, *shape), batch)
    limits, pieces = np.linspace(0.5, 0.7, batch), tiles(shape, side, 4)
    rows, columns = (
        np.random.default_rng(side).normal(0, 1, (batch, *one)) for one in ((shape[0], 3), (3, shape[1]))
    )
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    marks = made[3][::-1]
    there = [launcher.upload(plane, np.uint8 if plane.dtype == bool else np.float32) for plane in (*made, marks)]
    given = tuple(there[:4]), pieces, limits, (rows, columns), there[4]
    blank, sums = quiet_sky_again_cuda(launcher, *given)
    blank, level = launcher.download(blank).view(bool), rows @ columns
    for n in range(batch):
        for tile in pieces:
            core = [plane[n][tile.core] for plane in made]
            known = level[n][tile.core], marks[n][tile.core]
            expected, (total, number) = quiet_sky_again(*core, limits[n], *known)
            np.testing.assert_array_equal(blank[n][tile.core], expected)
            np.testing.assert_array_equal(sums[n, tile.index, 1], number)
            # Some 100 values of 2 in float32, added in another order.
            np.testing.assert_allclose(sums[n, tile.index, 0], total, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("batch", "shape"), [(1, (70, 151)), (2, (35, 41)), (3, (12, 50)), (1, (5, 6))])
def test_cuda_body_marks_what_changed_as_the_definition_does(launcher, batch, shape):
    image, variance, _, lost = planes((batch, *shape), batch)
    image[..., 4, ::11] += 60
    there = [launcher.upload(one, np.float32) for one in (image, variance)]
    marks = launcher.download(changed_cuda(launcher, *there, launcher.upload(lost, np.uint8))).view(bool)
    for n in range(batch):
        np.testing.assert_array_equal(marks[n], changed(image[n], variance[n], lost[n]))


@pytest.mark.parametrize(("batch", "shape"), [(2, (35, 41)), (1, (5, 70))])
def test_cuda_body_gives_the_sigmas_of_the_definition(launcher, batch, shape):
    image, variance, _, blank = planes((batch, *shape), batch)
    there = [launcher.upload(one, np.float32) for one in (image, variance)]
    found = launcher.download(sigmas_cuda(launcher, *there, launcher.upload(~blank, np.uint8), 1.5))
    for n in range(batch):
        np.testing.assert_array_equal(found[n], sigmas(image[n], variance[n], ~blank[n], 1.5))

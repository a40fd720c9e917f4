"""Interpolation at positions of another pixel grid."""

import numpy as np
import pytest

from gpudiff.arrays import resample as module
from gpudiff.arrays.resample import flaw, lattice, resample, resample_cuda, weights
from gpudiff.model.errors import WrongShape

SHAPE = (150, 170)
NONE = np.zeros(SHAPE, bool)
NOTHING = np.zeros(SHAPE, np.int32)


def turned(degrees=2.0, scale=1.0, shift=(3.3, -2.6)):
    """A map that turns, scales and shifts about the middle."""
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    cy, cx = SHAPE[0] / 2, SHAPE[1] / 2
    return lambda y, x: (
        cy + shift[0] + cos * (y - cy) - sin * (x - cx),
        cx + shift[1] + sin * (y - cy) + cos * (x - cx),
    )


def star(y, x, sigma=1.4, at=(75.3, 84.8)):
    """A Gaussian of peak 1."""
    return np.exp(-0.5 * ((y - at[0]) ** 2 + (x - at[1]) ** 2) / sigma**2)


def exact(place):
    return place(*np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float))


def drawn(function):
    return function(*np.mgrid[: SHAPE[0], : SHAPE[1]]).astype(np.float32)


def reference(image, y, x, table):
    """One value in float64, each weight times each pixel, as the docstring says it."""
    row, column = int(np.floor(y)), int(np.floor(x))
    down, across = (table[round(part * module.PHASES)].astype(float) for part in (y - row, x - column))
    return float(down @ image[row - 3 : row + 5, column - 3 : column + 5].astype(float) @ across)


def test_it_is_the_weighted_sum_of_64_pixels():
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    places = lattice(turned(scale=1.05), SHAPE)
    got, lost, _ = resample(image, NONE, NOTHING, places, 1.4)
    y, x, area = places.cut(0, SHAPE[0], 0, SHAPE[1])
    for j, i in ((40, 30), (75, 84), (100, 140)):
        want = reference(image, y[j, i], x[j, i], weights(1.4)) * area[j, i]
        assert not lost[j, i]
        assert got[j, i] == pytest.approx(want, abs=2e-6)  # float32 sums of 64 products of unit size


@pytest.mark.parametrize(("fwhm", "most"), [(2.5, 1.2e-2), (3.3, 2e-3), (5.0, 1e-3)])
def test_a_star_is_read_off_where_it_lies(fwhm, most):
    sigma = fwhm / 2.3548
    place = turned()
    got, _, _ = resample(drawn(lambda y, x: star(y, x, sigma)), NONE, NOTHING, lattice(place, SHAPE), sigma)
    want = star(*exact(place), sigma)
    # both axes err by at most `flaw`, and their errors add
    assert np.abs(got - want)[20:-20, 20:-20].max() < min(most, 2.2 * flaw(sigma) + 2e-4)


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.25])
def test_flux_is_kept_whatever_the_scale(scale):
    image = drawn(lambda y, x: star(y, x, 2.0))
    got, _, _ = resample(image, NONE, NOTHING, lattice(turned(3, scale), SHAPE), 2.0)
    assert got.sum() == pytest.approx(image.sum(), rel=1e-4)  # errors of single pixels average out


def test_a_flat_image_stays_flat():
    got, lost, _ = resample(np.full(SHAPE, 7, np.float32), NONE, NOTHING, lattice(turned(), SHAPE))
    assert np.abs(got[~lost] - 7).max() < 1e-5  # weights sum to 1 in float32


def test_whole_pixel_shifts_change_no_value():
    image = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    got, lost, _ = resample(image, NONE, NOTHING, lattice(lambda y, x: (y + 3.0, x - 5.0), SHAPE))
    assert np.abs(got[:-3, 5:] - image[3:, :-5]).max() < 1e-5
    assert not lost[:-3, 5:].any()
    assert lost[-2:].all()


def test_white_noise_keeps_its_power_on_the_scale_of_a_star():
    image = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    got, _, _ = resample(image, NONE, NOTHING, lattice(lambda y, x: (y + 0.5, x + 0.5), SHAPE))
    sums = [plane[3:-7, 4:-6].reshape(14, 10, 16, 10).sum((1, 3)).std() for plane in (image, got)]
    assert sums[1] == pytest.approx(sums[0], rel=0.03)  # block edges lose what the weights blur
    assert got[5:-5, 5:-5].std() < 0.9  # while a pixel's own scatter shrinks


def test_values_off_the_image_are_lost():
    _, lost, _ = resample(np.ones(SHAPE, np.float32), NONE, NOTHING, lattice(turned(), SHAPE))
    y, x = exact(turned())
    beyond = (y < -1) | (y > SHAPE[0]) | (x < -1) | (x > SHAPE[1])
    inside = (y > 1) & (y < SHAPE[0] - 2) & (x > 1) & (x < SHAPE[1] - 2)
    assert lost[beyond].all()
    assert not lost[inside].any()


def test_a_bad_pixel_loses_what_it_forms_and_hands_on_its_bit():
    bad, mask = NONE.copy(), NOTHING.copy()
    bad[60, 70], mask[60, 70] = True, 2
    _, lost, bits = resample(np.ones(SHAPE, np.float32), bad, mask, lattice(lambda y, x: (y + 0.5, x), SHAPE))
    assert sorted(zip(*np.nonzero(lost[:-8]), strict=True)) == [(59, 70), (60, 70)]
    assert (bits[59:61, 70] == 2).all()


def test_a_bit_of_a_usable_pixel_goes_to_the_nearest_value():
    mask = NOTHING.copy()
    mask[60, 70] = 4
    _, _, bits = resample(np.ones(SHAPE, np.float32), NONE, mask, lattice(lambda y, x: (y + 0.3, x - 0.2), SHAPE))
    assert list(zip(*np.nonzero(bits), strict=True)) == [(60, 70)]


def test_the_number_of_threads_changes_nothing():
    image = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
    places = lattice(turned(), SHAPE)
    one, two = (resample(image, NONE, NOTHING, places, threads=n)[0] for n in (1, 2))
    assert np.array_equal(one, two)


def test_a_lattice_is_as_fine_as_the_distortion_asks():
    def bent(y, x):
        return y + 3 * np.sin(x / 60), x + 2 * np.cos(y / 50)

    places = lattice(bent, (400, 500))
    y, x, area = places.cut(0, 400, 0, 500)
    want = bent(*np.mgrid[:400, :500].astype(float))
    assert places.step < 100
    assert np.hypot(y - want[0], x - want[1]).max() < 0.02  # twice the tolerance: the edges have one side only
    rows, columns = np.mgrid[:400, :500]
    slope = 1 + 3 / 60 * np.cos(columns / 60) * 2 / 50 * np.sin(rows / 50)
    assert np.abs(area - slope).max() < 2e-3  # its lattice is as fine as the positions need


def test_a_map_that_is_straight_needs_a_coarse_lattice_only():
    assert lattice(turned(), (400, 500)).error < 1e-9


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize(("batch", "size", "from_size"), [(1, (60, 85), (70, 64)), (9, (21, 40), (33, 35))])
def test_cuda_body_agrees_with_the_definition(launcher, batch, size, from_size):
    rng = np.random.default_rng(batch)
    images = rng.normal(100, 20, (batch, *from_size)).astype(np.float32)
    bad = rng.random((batch, *from_size)) < 0.02
    bad[:, 5:12, 8:14] = True
    masks = rng.integers(0, 1 << 11, (batch, *from_size)) * bad

    def place(n):
        bend = 1 + 0.02 * n
        return lambda y, x: (2.3 + bend * y + 0.05 * x - 1e-3 * x * y, -3.2 + 0.97 * x - 0.03 * y + 2e-3 * y**2)

    places, sigmas = [lattice(place(n), size) for n in range(batch)], [1.0 + 0.1 * n for n in range(batch)]
    made = resample_cuda(launcher, images, bad, masks, places, sigmas)
    for n in range(batch):
        expected = resample(images[n], bad[n], masks[n], places[n], sigmas[n])
        values, lost, bits = (launcher.download(plane)[n] for plane in made)
        # float32 sums in another order: 1e-6 of the values; and a position within rounding of half a phase may
        # take the next one, 5e-4 px away, where the image changes by up to 100 a pixel.
        off = np.abs(values - expected[0])
        assert off.max() < 0.1
        assert (off > 5e-4).mean() < 1e-3
        np.testing.assert_array_equal(lost, expected[1])
        np.testing.assert_array_equal(bits, expected[2])


def test_cuda_body_refuses_lattices_of_different_shapes(launcher):
    places = [lattice(turned(), (40, 50)), lattice(turned(), (40, 51))]
    with pytest.raises(WrongShape, match="2 lattices of one shape"):
        resample_cuda(launcher, np.zeros((2, 9, 9)), np.zeros((2, 9, 9)), np.zeros((2, 9, 9)), places, [1, 1])

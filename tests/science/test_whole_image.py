"""The whole-image engine."""

import tracemalloc

import numpy as np

from gpudiff.arrays import basis as bases
from gpudiff.model.kernel import MatchingKernel
from gpudiff.science import whole_image as engine
from gpudiff.science.pair import roles
from gpudiff.science.psf import psf_of
from gpudiff.science.stars import find_stars


def tiles_of(maker, pair, half=12):
    science, template = maker.exposures(pair)
    return engine.tiles_of(science, template, half, 1.0, 0.07)


def first_kernel(shape, half=12):
    image = np.zeros((1, 2 * half + 1, 2 * half + 1))
    image[0, half, half] = 1
    return MatchingKernel(image, 0, shape, np.zeros(1), 0)


def test_the_tiles_cover_every_pixel_once(maker):
    tiles = tiles_of(maker, maker.pair(seed=61, stars=20))
    count = np.zeros((384, 384), int)
    for y, x in zip(tiles.y, tiles.x, strict=True):
        count[max(0, y - tiles.reach) : y + tiles.reach + 1, max(0, x - tiles.reach) : x + tiles.reach + 1] += 1
    assert (count == 1).all()
    assert (tiles.fold_at(tiles.y, tiles.x) == tiles.fold).all()


def test_a_pass_holds_a_few_tiles_and_a_small_matrix_for_each(maker):
    pair = maker.pair(seed=62, stars=60)
    tiles = tiles_of(maker, pair)
    axis = np.arange(-12, 13)
    psf = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 1.5**2)
    basis = bases.basis(bases.FULL, 1.2, 12, psf / psf.sum())
    tracemalloc.start()
    engine.sums_of(tiles, basis, first_kernel((384, 384)), threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    functions = len(basis.functions) + 1
    # A Gram matrix of doubles a tile; 8 tiles in single precision, each basis function a few times over.
    bound = 8 * len(tiles) * functions**2 + 4 * 8 * (4 * 57 * 57 + 6 * functions * 33 * 57)
    assert peak < bound
    assert bound < 384 * 384 * functions * 4  # what the convolved images would be, all at once


BRIGHT = np.array([[100, 100, 1.5e5], [280, 120, 1e5], [130, 290, 1.2e5], [300, 300, 9e4], [200, 60, 8e4]])


def test_with_few_bright_stars_the_faint_ones_say_how_the_kernel_varies(maker):
    off = []
    for seed in (63, 64, 65):
        pair = maker.pair(seed=seed, stars=110, star_flux=(1.5e3, 6e3), slope=0.1, extra=BRIGHT)
        settings = maker.settings(convolve="template").match
        science, template = maker.exposures(pair)
        stars = find_stars(science, template, settings, 25)
        widths = roles(science, template, stars, settings).widths
        fit = engine.whole_image(science, template, stars, psf_of(template, stars, "template"), widths, settings)
        off += [fit.kernel.at(192, x).sum() * (1 + 0.1 * (2 * x / 384 - 1)) - 1 for x in (40, 192, 344)]
    assert np.sqrt(np.mean(np.square(off))) < 0.01  # a constant sum would leave 0.06

"""Tiles with halos."""

import numpy as np
import pytest
import scipy.fft

from gpudiff.arrays.tiles import tiles

SHAPES = [(512, 512), (601, 333), (64, 1000), (40, 50), (1, 7)]


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_cover_the_image_exactly_once(shape):
    count = np.zeros(shape, int)
    for tile in tiles(shape, 256, 12):
        count[tile.core] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_all_tiles_share_one_fft_size_that_holds_core_and_halo(shape):
    pieces = tiles(shape, 256, 12)
    (size,) = {tile.size for tile in pieces}
    assert size == scipy.fft.next_fast_len(size, real=True)
    for tile in pieces:
        assert tile.y1 - tile.y0 + 2 * tile.halo <= size
        assert tile.x1 - tile.x0 + 2 * tile.halo <= size


@pytest.mark.parametrize("shape", SHAPES)
def test_the_core_comes_back_out_of_the_square(shape):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for tile in tiles(shape, 128, 9):
        np.testing.assert_array_equal(tile.cut(tile.square(image[tile.outer])), image[tile.core])


def test_beyond_the_image_the_square_is_zero():
    tile = tiles((300, 300), 128, 9)[0]
    square = tile.square(np.ones((300, 300), np.float32)[tile.outer])
    assert square[:9].sum() == square[:, :9].sum() == 0
    assert square.sum() == (tile.y1 + 9) * (tile.x1 + 9)


def test_numbers_go_row_by_row():
    pieces = tiles((600, 400), 256, 12)
    assert [tile.index for tile in pieces] == list(range(len(pieces)))
    assert [(t.y0, t.x0) for t in pieces] == sorted((t.y0, t.x0) for t in pieces)


def test_a_halo_wider_than_the_tile_is_possible():
    image = np.random.default_rng(2).normal(size=(90, 90)).astype(np.float32)
    for tile in tiles((90, 90), 64, 60):
        np.testing.assert_array_equal(tile.cut(tile.square(image[tile.outer])), image[tile.core])

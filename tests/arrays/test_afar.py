"""Planes that stay on a device, and what the host reads of them."""

import numpy as np
import pytest
from counting import Counting

from gpudiff.arrays import afar
from gpudiff.arrays.afar import Afar
from gpudiff.arrays.cutouts import cutouts
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.tiles import tiles

SHAPE = 70, 101


class Device:
    """Room enough."""

    def __init__(self, launcher):
        self.launcher = launcher

    def with_room(self, work):
        return work()


@pytest.fixture
def plane():
    return np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def there(plane):
    """The plane on a device that counts what comes down."""
    launcher = Counting()
    return Afar(Device(launcher), launcher.upload(plane[None], np.float32))


def came(there):
    """Bytes that came down since the last call."""
    total = sum(there.device.launcher.down)
    there.device.launcher.down.clear()
    return total


KEYS = {
    "pixels": (np.array([3, 60, -1]), np.array([100, 7, -101])),
    "squares of pixels": (np.arange(8, 12)[:, None], np.arange(30, 35)),
    "a pixel": (4, 5),
    "a box": (slice(10, 30), slice(90, None)),
    "rows": slice(16, 40),
    "every seventh": (slice(None, None, 7), slice(None, None, 7)),
    "none": (slice(5, 5), slice(None)),
    "a row": 5,
}


@pytest.mark.parametrize("name", KEYS)
def test_it_is_read_as_an_array_is(plane, there, name):
    np.testing.assert_array_equal(there[KEYS[name]], plane[KEYS[name]])


def test_cores_of_tiles_come_down_together(plane, there):
    pieces = tiles(SHAPE, 40, 0)
    for found, tile in zip(afar.cores(there, pieces), pieces, strict=True):
        np.testing.assert_array_equal(found, plane[tile.core])
    assert len(there.device.launcher.down) == 1


def test_what_is_read_comes_down_alone(there):
    there[np.array([1, 2]), np.array([1, 20])]
    assert came(there) == 2 * 4
    there[0:16, 0:40]
    assert came(there) == 16 * 40 * 4
    there[::7, ::7]
    assert came(there) == 10 * 15 * 4
    stamps(there, np.array([5, 69]), np.array([0, 50]), 3)
    assert came(there) == 2 * 7 * 7 * 4


@pytest.mark.parametrize("at", [70, -71])
def test_pixels_that_are_not_there_are_refused(there, at):
    said = f"expected places of 70 pixels, got {min(at, 3)} to {max(at, 3)}"
    with pytest.raises(IndexError, match=said):
        there[np.array([3, at]), np.array([0, 0])]
    with pytest.raises(IndexError, match=said):
        there[np.array([3, at]), np.array([0, 0])] = 1


def test_squares_of_it_are_as_of_an_array(plane, there):
    y, x = np.array([5, 69, 0]), np.array([0, 50, 100])
    np.testing.assert_array_equal(stamps(there, y, x, 3), stamps(plane, y, x, 3))
    np.testing.assert_array_equal(cutouts(there, x, y, 7), cutouts(plane, x, y, 7))


def test_all_of_it_comes_down_once_for_all_else(plane, there):
    np.testing.assert_array_equal(np.isfinite(there + 1), np.isfinite(plane))
    assert there.sum() == plane.sum()
    assert came(there) == plane.nbytes
    there[plane > 0]
    assert came(there) == 0


def test_pixels_are_written_on_the_device_and_on_the_host(plane, there):
    y, x = np.array([3, 69]), np.array([5, 100])
    there[y, x] *= 2
    plane[y, x] *= 2
    np.testing.assert_array_equal(there[y, x], plane[y, x])
    np.testing.assert_array_equal(there[::3, ::5], plane[::3, ::5])
    np.testing.assert_array_equal(there, plane)
    there[y, x] *= 3
    plane[y, x] *= 3
    np.testing.assert_array_equal(there, plane)
    there._here = None
    np.testing.assert_array_equal(there, plane)


def test_pixels_are_written_from_the_far_edges_too(plane, there):
    y, x = np.array([-1, 0]), np.array([5, -2])
    there[y, x] = plane[y, x] = 7
    np.testing.assert_array_equal(there, plane)


def test_a_factor_and_a_sky_change_what_was_read_too(plane, there):
    np.asarray(there)
    rows, columns = np.ones((SHAPE[0], 1), np.float32), np.full((1, SHAPE[1]), 0.25, np.float32)
    there *= 2
    there /= 3
    there.take_sky(rows, columns)
    there.lift(2 * rows, columns)
    np.testing.assert_allclose(there[0:16, 0:16], ((plane * 2 / 3 - 0.25) / 2)[0:16, 0:16], atol=1e-6)  # float32


def test_flags_are_read_and_written(plane):
    launcher = Counting()
    flags = plane > 0.5
    there = Afar(Device(launcher), launcher.upload(flags[None], np.uint8), bool)
    y, x = np.array([0, 30, 31]), np.array([7, 8, 9])
    there[y, x] = flags[y, x] = np.array([True, False, True])
    np.testing.assert_array_equal(there[y, x], flags[y, x])
    np.testing.assert_array_equal(~np.asarray(there), ~flags)


@pytest.mark.parametrize(("shape", "share"), [((70, 101), 0.02), ((8, 32), 1.0), ((1, 31), 0.5), ((40, 40), 0.0)])
def test_cuda_body_of_flags_finds_all_that_are_set(launcher, shape, share):
    flags = np.random.default_rng(4).random(shape) < share
    found = afar.flagged_cuda(launcher, launcher.upload(flags[None], np.uint8))
    np.testing.assert_array_equal(found, np.flatnonzero(flags))


def test_the_numbers_of_flags_are_those_after_a_change():
    launcher, flags = Counting(), np.zeros(SHAPE, bool)
    there = Afar(Device(launcher), launcher.upload(flags[None], np.uint8), bool)
    assert len(afar.numbers(there)) == 0
    y, x = np.array([30, 0]), np.array([8, 7])
    there[y, x] = flags[y, x] = True
    np.testing.assert_array_equal(afar.numbers(there), afar.numbers(flags))
    assert afar.numbers(there).tolist() == [7, 30 * SHAPE[1] + 8]


def test_a_change_that_would_be_lost_is_refused(there):
    with pytest.raises(TypeError, match="is written to by"):
        there[0:3, 0:3] = 1
    with pytest.raises(ValueError, match="read-only"):
        there[0:3, 0:3][0, 0] = 1
    with pytest.raises(TypeError):
        there += 1


# ---------------------------------------------------------------- the CUDA bodies
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_cuda_bodies_agree_with_the_definitions(launcher, plane, dtype):
    values = (100 * plane).astype(dtype)
    device = launcher.upload(values[None], dtype)
    numbers = np.array([0, 7069, 300, 300])
    np.testing.assert_array_equal(afar.pixels_cuda(launcher, device, numbers), afar.pixels(values, numbers))
    y, x = np.array([0, 69, 35]), np.array([2, 100, 50])
    np.testing.assert_array_equal(afar.stamps_cuda(launcher, device, y, x, 4), stamps(values, y, x, 4))
    rows, columns = np.array([0, 69, 5]), range(3, 101, 9)
    found = afar.lattice_cuda(launcher, device, rows, columns)
    np.testing.assert_array_equal(found, afar.lattice(values, rows, columns))

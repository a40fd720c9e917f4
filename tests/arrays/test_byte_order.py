"""Bytes in the wrong order."""

import numpy as np
import pytest

from gpudiff.arrays.byte_order import swapped

SKY = np.random.default_rng(3).normal(300, 17, (128, 100))


@pytest.mark.parametrize("kind", ["u2", "i2", "f4"])
@pytest.mark.parametrize("factor", [1.0, 5.0, 50.0])
def test_bytes_in_the_wrong_order_are_known(kind, factor):
    image = (SKY * factor).astype(kind)
    as_read = np.uint16 if kind == "u2" else np.float32
    assert not swapped(image.astype(as_read))
    assert swapped(image.byteswap().astype(as_read))


def test_whole_numbers_in_float32_are_known_too():
    image = np.rint(SKY).astype("f4")
    assert not swapped(image)
    assert swapped(image.byteswap())


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1.0, 1e9])
@pytest.mark.parametrize("level", [0, 300])
def test_light_in_any_unit_is_in_order(scale, level):
    image = ((SKY - 300 + level) * scale).astype("f4")
    image[:40] = np.nan
    image[:, :30] = 0
    assert not swapped(image)


def test_byte_order_in_memory_does_not_matter():
    assert not swapped(SKY.astype(">f4"))
    assert not swapped(SKY.astype(">u2"))


@pytest.mark.parametrize("kind", ["u2", "f4"])
@pytest.mark.parametrize("constant", [0, 7, 100, 255])
def test_numbers_of_8_bits_times_256_are_in_order(kind, constant):
    image = np.rint(SKY / 10 if kind == "u2" else SKY / 10 - 30) * 256 + constant
    assert not swapped(image.astype(kind))


def test_one_star_tells_bytes_in_the_wrong_order_from_8_bits():
    image = np.clip(SKY, 256, 500).astype("u2")  # one high byte in all of the sky
    image[5, 50] = 3000
    assert swapped(image.byteswap())


def test_one_value_is_in_order():
    assert not swapped(np.full((64, 64), 1, np.uint16))
    assert not swapped(np.zeros((64, 64), np.float32))
    assert not swapped(np.full((64, 64), np.nan, np.float32))

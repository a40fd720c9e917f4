"""Mask planes: bits, names, and masks from files that number their planes otherwise."""

import numpy as np
import pytest

from gpudiff.model import mask


def test_every_plane_has_a_bit_of_its_own():
    assert sorted(mask.BITS.values()) == list(range(len(mask.BITS)))
    assert set(mask.UNUSABLE) <= set(mask.BITS)


def test_bits_are_ored():
    assert mask.bit("BAD", "NO_DATA") == 1 << mask.BITS["BAD"] | 1 << mask.BITS["NO_DATA"]
    assert mask.bit() == 0


def test_an_unknown_plane_has_no_bit():
    with pytest.raises(KeyError):
        mask.bit("CLOUD")


def test_cards_name_every_plane_for_fits_readers():
    assert mask.cards() == {f"MP_{name}": number for name, number in mask.BITS.items()}


def test_translate_moves_each_plane_to_our_bit():
    theirs = np.array([[0, 1 << 7, 1 << 3 | 1 << 7]], np.int32)
    ours = mask.translate(theirs, {"SAT": 7, "CR": 3})
    np.testing.assert_array_equal(ours, [[0, mask.bit("SAT"), mask.bit("SAT", "CR")]])


def test_translate_ignores_planes_that_we_do_not_know():
    theirs = np.array([[1 << 2, 1 << 2 | 1]], np.int32)
    ours = mask.translate(theirs, {"CROSSTALK": 2, "BAD": 0})
    np.testing.assert_array_equal(ours, [[0, mask.bit("BAD")]])


def test_a_mask_without_names_makes_every_marked_pixel_bad():
    np.testing.assert_array_equal(mask.translate(np.array([[0, 1, 64]]), {}), [[0, 1, 1]])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_translate_gives_int32_from_any_integer(dtype):
    theirs = np.full((2, 3), 1 << 5, dtype)
    for names in ({"SAT": 5}, {}):
        ours = mask.translate(theirs, names)
        assert ours.dtype == np.int32
        assert ours.all()


def test_translate_by_our_own_cards_changes_nothing():
    ours = np.arange(1 << len(mask.BITS), dtype=np.int32).reshape(64, -1)
    np.testing.assert_array_equal(mask.translate(ours, mask.BITS), ours)


def test_marked_are_the_pixels_with_any_of_the_planes():
    pixels = np.zeros((130, 3), np.int32)  # more rows than are looked at together
    pixels[0, 0], pixels[64, 1], pixels[129, 2] = mask.bit("SAT"), mask.bit("SAT", "CR"), mask.bit("INTRP")
    assert np.argwhere(mask.marked(pixels, "SAT", "NO_DATA")).tolist() == [[0, 0], [64, 1]]


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_masks_of_frames_and_of_exposures_take_bits_in_place(kind):
    pixels = np.zeros((2, 2), kind)
    pixels[0] |= mask.bit("STREAK")
    pixels[0, 0] &= ~mask.bit("STREAK")
    assert pixels.tolist() == [[0, 1 << 11], [0, 0]]

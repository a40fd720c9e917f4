"""Pixels that show the same light in both images."""

import numpy as np

from gpudiff.arrays.static_light import changed, share_of_light

AXIS = np.arange(-16, 17)
STAR = np.exp(-0.5 * (AXIS[:, None] ** 2 + AXIS**2) / 2.0**2)


def test_blank_sky_has_next_to_no_say():
    noise = np.random.default_rng(1).normal(0, 2, (40, 33, 33)).astype(np.float32)
    # The mean of 7 x 7 pixels exceeds three of its sigmas at 1 pixel in 700, and counts a quarter there.
    assert share_of_light(noise, np.full(40, 4.0), 0.5).mean() < 0.002


def test_a_bright_star_is_believed_in_full_and_in_its_wings_less():
    share = share_of_light(100 * STAR[None], np.ones(1), 0.5)[0]
    assert share[16, 16] > 0.99
    assert 0 < share[16, 24] < share[16, 22] < share[16, 16]


def test_a_source_in_one_image_only_is_changed_and_so_is_what_lies_round_it():
    chi = np.random.default_rng(2).normal(0, 1, (1, 33, 33)) + 8 * STAR
    off = changed(chi)[0]
    assert off[13:20, 13:20].all()
    assert not off[:4].any()


def test_faint_light_that_is_coherent_is_seen_though_no_pixel_stands_out():
    assert changed(2.5 * STAR[None])[0, 16, 16]


def test_noise_alone_is_not_changed():
    chi = np.random.default_rng(3).normal(0, 1, (30, 33, 33))
    # 4.5 sigma once in 150,000 pixels, 49 of them lost each time.
    assert changed(chi).mean() < 0.01

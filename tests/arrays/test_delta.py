"""The delta basis."""

import numpy as np
import pytest

from gpudiff.arrays import delta
from gpudiff.arrays.polynomial import terms
from gpudiff.arrays.stamps import convolved


def light(half=7, y=0.0, x=0.0):
    axis = np.arange(-half, half + 1)
    return np.exp(-0.5 * ((axis[:, None] - y) ** 2 + (axis - x) ** 2) / 1.5**2)


def test_each_pixel_of_the_disc_belongs_to_one_function_of_a_pixel_or_a_block():
    label = delta.labels(light(), 60)
    sizes = np.bincount(label[label >= 0])
    assert set(sizes) == {1, 9}
    assert len(sizes) <= 60
    np.testing.assert_allclose(delta.images(label).sum((1, 2)), 1)


def test_pixels_are_fine_where_the_light_is():
    label = delta.labels(light(x=4), 60)
    assert (label == label[7, 11]).sum() == 1
    assert (label == label[7, 3]).sum() == 9


def test_faint_blocks_stay_whole_however_many_functions_there_may_be():
    label = delta.labels(light(half=10), 10_000)
    assert (label == label[10, 0]).sum() == 9


def test_shifted_stamps_mixed_are_the_stamps_convolved_with_the_mixed_kernel():
    rng = np.random.default_rng(1)
    stamps = rng.normal(size=(9, 35, 35)).astype(np.float32)
    label = delta.labels(light(), 60)
    mixture = rng.normal(size=(9, label.max() + 1))
    shifted = delta.convolve_stamps(stamps, label, 21)
    kernels = np.tensordot(mixture, delta.images(label), 1)
    expected = convolved(stamps, kernels, 21)
    found = np.einsum("nf,nfp->np", mixture, shifted[:, :-1])
    np.testing.assert_allclose(found, expected, atol=1e-4)  # float32 sums of 177 products
    assert (shifted[:, -1] == 1).all()


def test_a_smooth_kernel_is_less_rough_than_a_noisy_one_and_more_so_far_out():
    functions = np.eye(225).reshape(225, 15, 15)
    form = delta.roughness(functions, 2.0)
    middle, rim = np.zeros((15, 15)), np.zeros((15, 15))
    middle[7, 7], rim[7, 13] = 1, 1
    rough = [k.ravel() @ form @ k.ravel() for k in (light(), middle, rim)]
    assert rough[0] < rough[1] < rough[2]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_form_over_the_field_is_the_mean_of_the_form_at_its_places(order):
    rng = np.random.default_rng(2)
    form = np.diag([1.0, 2.0])
    u, v = (a.ravel() for a in np.meshgrid(*[(np.arange(400) + 0.5) / 200 - 1] * 2))
    t = terms(u, v, order)
    c = rng.normal(size=(2, t.shape[1]))
    kernels = t @ c.T
    expected = np.einsum("nf,fg,ng->n", kernels, form, kernels).mean()
    found = c.ravel() @ delta.over_the_field(form, order) @ c.ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # midpoint sums


def test_variation_counts_only_for_what_varies():
    constant = np.array([1.0, 0, 0])
    forms = [delta.over_the_field(np.eye(1), 1, weight) for weight in (1.0, 100.0)]
    assert constant @ forms[0] @ constant == constant @ forms[1] @ constant == 1
    tilted = np.array([0, 1.0, 0])
    np.testing.assert_allclose(tilted @ forms[1] @ tilted, 100 * (tilted @ forms[0] @ tilted))

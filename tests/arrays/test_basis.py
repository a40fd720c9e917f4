"""The Alard-Lupton basis."""

import numpy as np
import pytest
from scipy.signal import convolve2d

from gpudiff.arrays import basis


def psf(sigma=1.5, half=10):
    axis = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    return image / image.sum()


def test_a_gaussian_of_degree_n_has_n_plus_1_times_n_plus_2_over_2_functions():
    counts = [len(basis.images(basis.factors(one, 1.5, 9))) for one in (basis.FULL, basis.LARGE, basis.SMALL)]
    assert counts == [15 + 15 + 6 + 1, 15 + 6 + 1, 6 + 1]


def test_a_function_is_the_product_of_its_factors_x_inner():
    (factor,) = basis.factors(((1.0, 1),), 2.0, 6)
    functions = basis.images([factor])
    # Degree 1: 1, x, y; t = pixel / 2.
    t = np.arange(-6, 7) / 2
    bell = np.exp(-0.5 * t**2)
    np.testing.assert_allclose(functions[1], np.outer(bell, t * bell), atol=1e-12)
    np.testing.assert_allclose(functions[2], np.outer(t * bell, bell), atol=1e-12)


def test_only_the_first_function_carries_flux():
    functions = basis.images(basis.factors(basis.FULL, 1.2, 12))
    made = np.tensordot(basis.orthogonal(functions, psf()), functions, 1)
    np.testing.assert_allclose(made.sum((1, 2)), [1] + [0] * (len(made) - 1), atol=1e-9)


def test_convolved_with_the_psf_the_normal_matrix_is_well_conditioned():
    functions = basis.images(basis.factors(basis.FULL, 1.2, 12))
    made = np.tensordot(basis.orthogonal(functions, psf()), functions, 1)
    seen = np.array([convolve2d(one, psf()).ravel() for one in made])
    # Orthogonal but for the share of the first function taken out of the others: 1e3 instead of 1e10.
    gram = seen[1:] @ seen[1:].T
    scale = np.sqrt(np.diag(gram))
    assert np.linalg.cond(gram / scale[:, None] / scale) < 1e4


def test_functions_of_one_gaussian_and_degree_share_a_shell():
    made = basis.basis(((1.0, 2), (2.0, 1)), 1.5, 9, psf())
    # By degree, the Gaussian nearest to the matching width first: 1 | 1 | x, y | x, y | xx, xy, yy.
    assert made.shell.tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 4]


def star(stretch=(1.0, 1.0), shift=0.0, half=22):
    """A star as wide as `psf` through the first function of a basis of matching width 1.4, changed a little."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1] - shift
    variance = (1.5**2 + 1.4**2) * np.array(stretch) ** 2
    return np.exp(-0.5 * (y**2 / variance[0] + x**2 / variance[1])) / (2 * np.pi * np.sqrt(variance.prod()))


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        (star(shift=0.01), 1),
        (star(stretch=(1.01, 1.01)), 2),
        (star(stretch=(1.01, 1 / 1.01)), 3),
    ],
)
def test_what_moves_grows_or_shears_a_star_is_in_a_shell_of_its_own(changed, number):
    made = basis.basis(basis.FULL, 1.4, 12, psf())
    first = np.eye(len(made.functions))[0]
    turn, shell = basis.turned(made, psf(), first)
    seen = np.array([convolve2d(one, psf()).ravel() for one in np.tensordot(turn, made.functions, 1)])
    share = (seen[1:] @ (changed - star()).ravel()) ** 2
    # Second order: 1 % of the change; the kernel's own Gaussian is sampled and cut off, the star's is not.
    assert share[shell[1:] == number].sum() > 0.98 * ((changed - star()) ** 2).sum()


def test_the_turned_functions_are_as_orthogonal_as_the_others():
    made = basis.basis(basis.FULL, 1.2, 12, psf())
    kernel = np.random.default_rng(1).normal(1, 0.1, len(made.functions))
    turn, shell = basis.turned(made, psf(), kernel)
    np.testing.assert_allclose(turn @ turn.T, np.eye(len(kernel)), atol=1e-9)
    assert len(shell) == len(kernel)
    assert turn[0].tolist() == [1] + [0] * (len(kernel) - 1)


def test_a_shell_turned_is_made_of_the_shell():
    made = basis.basis(basis.LARGE, 1.4, 12, psf())
    shell = made.functions[made.shell == 6].reshape(3, -1)
    turned = np.rot90(made.functions[made.shell == 6], axes=(1, 2)).reshape(3, -1)
    mixed = np.linalg.lstsq(shell.T, turned.T, rcond=None)[0].T @ shell
    np.testing.assert_allclose(mixed, turned, atol=1e-9 * np.abs(turned).max())


def test_functions_that_no_star_can_tell_apart_are_dropped():
    functions = basis.images(basis.factors(basis.SMALL, 1.5, 9))
    doubled = np.concatenate([functions, functions[:3] * 2])
    assert len(basis.orthogonal(doubled, psf())) <= len(functions)


def test_convolved_stamps_are_those_of_a_plain_convolution():
    rng = np.random.default_rng(1)
    size, half = 11, 5
    stamps = rng.normal(size=(3, size + 2 * half, size + 2 * half)).astype(np.float32)
    factors = basis.factors(basis.MEDIUM, 1.4, half)
    functions = basis.images(factors)
    mix = rng.normal(size=(4, len(functions)))
    found = basis.convolve_stamps(stamps, factors, mix, size)
    mixed = np.tensordot(mix, functions, 1)
    expected = [[convolve2d(s, f, mode="valid").ravel() for f in mixed] for s in stamps.astype(float)]
    # float32 sums of 121 products of order 10.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("gaussians", "count", "size", "half"),
    [(basis.FULL, 9, 25, 12), (basis.SMALL, 1, 11, 5), (basis.LARGE, 3, 20, 31)],
)
def test_cuda_body_agrees_with_the_definition(launcher, gaussians, count, size, half):
    made = basis.basis(gaussians, 1.3, half, psf())
    rng = np.random.default_rng(2)
    side = size + 2 * half
    stamps = (1e3 * rng.random((count, side, side)) ** 8).astype(np.float32)
    values = launcher.download(basis.convolve_cuda(launcher, made, stamps, size))
    exact = [[convolve2d(s, f, mode="valid").ravel() for f in made.functions] for s in stamps.astype(float)]
    numpy = made.convolve(stamps, size)
    assert values.shape == numpy.shape
    assert (values[:, -1] == 1).all()
    limit = 1e-6 * np.abs(exact).max()  # float32 sums of the separable functions, whose mixtures cancel
    assert np.abs(values[:, :-1] - exact).max() < limit
    assert np.abs(numpy[:, :-1] - exact).max() < limit

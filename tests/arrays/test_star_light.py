"""How significant the light of static stars is, and what share of it a kernel leaves."""

import numpy as np
import pytest

from gpudiff.arrays.star_light import learn, light_round, light_round_cuda, significance

AXIS = np.arange(-8, 9)
PSF = np.exp(-0.5 * (AXIS[:, None] ** 2 + AXIS**2) / 2.0**2)
PSF /= PSF.sum()


def star(flux, half, dy=0.0):
    axis = np.arange(-half, half + 1)
    return flux * np.exp(-0.5 * ((axis[:, None] - dy) ** 2 + axis**2) / 2.0**2) / (8 * np.pi)


def test_a_stars_light_is_its_squared_signal_to_noise():
    matched, weight = star(1000.0, 14)[None].astype(np.float32), np.full((1, 29, 29), 0.25, np.float32)
    light, _ = significance(matched, weight, PSF[None])
    assert light.shape == (1, 13, 13)
    # The star is drawn to 14 px, the filter to 8: 4 sigma.
    assert light[0, 6, 6] == pytest.approx(1000**2 * (PSF**2).sum() / 4, rel=1e-3)


def test_a_shift_is_worth_what_moving_the_star_leaves():
    moved = star(1000.0, 14, dy=0.01) - star(1000.0, 14)
    weight = np.full((1, 29, 29), 0.25)
    left, _ = significance(moved[None].astype(np.float32), weight, PSF[None])
    _, shift = significance(star(1000.0, 14)[None].astype(np.float32), weight, PSF[None])
    # Off the star's middle, where the slope along y is largest; central differences flatten its square by 10 %.
    assert 0.01**2 * shift[0, 4, 6] == pytest.approx(left[0, 4, 6], rel=0.12)


def test_what_has_no_value_tells_nothing_and_divides_by_nothing():
    light, shift = significance(np.ones((1, 29, 29), np.float32), np.zeros((1, 29, 29), np.float32), PSF[None])
    assert np.isfinite(light).all()
    assert (light == 0).all()
    assert (shift == 0).all()


@pytest.mark.parametrize(("flux", "move"), [(0.01, 0.0), (0.0, 0.03), (0.01, 0.03)])
def test_the_error_put_in_is_learned_though_some_stars_vary(flux, move):
    rng = np.random.default_rng(5)
    light, shift = 10 ** rng.uniform(2, 6, (5000, 4)), 10 ** rng.uniform(1, 5, (5000, 4))
    score = rng.normal(size=(5000, 4)) * np.sqrt(1 + flux**2 * light + move**2 * shift)
    score[::20] += 0.3 * np.sqrt(light[::20])  # one in twenty changed by 30 %
    found = learn(score, light, shift)
    # 10,000 pixels with an excess: 1 %; the changes that are not clipped add a few.
    assert found == (pytest.approx(flux, rel=0.1, abs=1e-3), pytest.approx(move, rel=0.1, abs=3e-3))


def test_noise_alone_teaches_nothing_most_of_the_time():
    rng = np.random.default_rng(6)
    light, shift = 10 ** rng.uniform(3, 6, (50, 1)), 10 ** rng.uniform(2, 5, (50, 1))
    said = 0
    for _ in range(100):
        score = np.repeat(rng.normal(size=(50, 1)), 20, 1)  # a star's pixels share their noise
        said += learn(score, np.repeat(light, 20, 1), np.repeat(shift, 20, 1)) != (0, 0)
    # 1.5 sigma, one-sided, of either share: 7 to 14 of 100.
    assert said <= 20


@pytest.mark.parametrize(
    ("shape", "reach", "half", "count"), [((61, 83), 4, 8, 9), ((40, 35), 7, 3, 1), ((30, 31), 1, 2, 0)]
)
def test_cuda_body_agrees_with_the_definition(launcher, shape, reach, half, count):
    rng = np.random.default_rng(count)
    matched = rng.gamma(0.5, 100, shape).astype(np.float32)
    variance, lost = rng.uniform(1, 9, shape).astype(np.float32), rng.random(shape) < 0.05
    matched[5, 7] = variance[9, 9:12] = np.nan
    variance[20, 3] = 0
    y, x = (rng.integers(0, side, count) for side in shape)  # some squares are not wholly on the image
    psf = rng.random((count, 2 * half + 1, 2 * half + 1))
    psf /= psf.sum((1, 2), keepdims=True)
    planes = launcher.upload(matched[None], np.float32), launcher.upload(variance[None], np.float32)
    found = light_round_cuda(launcher, *planes, launcher.upload(lost[None], np.uint8), y, x, psf, reach)
    for got, expected in zip(found, light_round(matched, variance, lost, y, x, psf, reach), strict=True):
        assert got.shape == (count, 2 * reach + 1, 2 * reach + 1)
        # float32 sums, on the host by transforms that are good to 1e-6 of the largest.
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * expected.max(initial=0))

"""The noise pass by tiles: whitening and matched filter."""

import numpy as np
import pytest
from scipy.signal import fftconvolve

from gpudiff.arrays import score_tiles
from gpudiff.arrays.correlation import autocorrelation, of_kernel
from gpudiff.arrays.tiles import tiles
from gpudiff.model.errors import WrongShape

HALF, HALO = 10, 14


def bell(sigma, half=HALF):
    axis = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    return image / image.sum()


def whiten_by(kernel, target, convolved):
    """whiten_at as `filters` wants it, for noise target + convolved seen through the kernel."""

    def whiten_at(u, v, size):
        power = score_tiles.noise_power(np.fft.rfft2(kernel, (size, size)), target, convolved)
        return np.sqrt(power[0, 0] / power), float(power[0, 0] / score_tiles.mean_power(power, size))

    return whiten_at


def whole(image, variance, lost, profile_at, whiten_at=None, side=128):
    """difference, variance, score, lost of all tiles put together."""
    halo = HALF + (HALO if whiten_at else 0)
    pieces = tiles(image.shape, side, halo)
    made = score_tiles.filters(profile_at, whiten_at, pieces[0].size, HALO if whiten_at else 0)
    out = {name: np.empty(image.shape) for name in ("difference", "variance", "score", "lost")}
    for tile in pieces:
        cut = (np.where(lost, 0, image)[tile.outer], variance[tile.outer], lost[tile.outer])
        scored = score_tiles.score_tile(*(np.ascontiguousarray(a) for a in cut), made, tile)
        for name, plane in out.items():
            plane[tile.core] = getattr(scored, name)
    return out


def noise(shape=(301, 277), seed=1):
    rng = np.random.default_rng(seed)
    variance = (20 * (1 + 0.5 * rng.random(shape))).astype(np.float32)
    return (rng.normal(size=shape) * np.sqrt(variance)).astype(np.float32), variance


def matched_filter(difference, variance, psf):
    """The score by its definition, summed in float64, over the pixels that have a value; 0 where there is none."""
    known = np.isfinite(difference)
    weight = np.where(known, 1 / variance.astype(float), 0)
    flipped = psf[::-1, ::-1]
    flux = fftconvolve(np.where(known, difference, 0) * weight, flipped, "same")
    return np.where(known, flux / np.sqrt(fftconvolve(weight, flipped**2, "same")), 0)


def test_without_whitening_the_score_is_the_matched_filters():
    image, variance = noise()
    psf, lost = bell(2.0), np.random.default_rng(2).random(image.shape) < 0.02
    holed = np.where(lost, np.nan, image).astype(np.float32)
    expected = matched_filter(holed, variance, psf)
    found = whole(image, variance, lost, lambda u, v: psf)
    np.testing.assert_array_equal(found["lost"] > 0, lost)
    np.testing.assert_allclose(found["score"], expected, atol=2e-5)  # float32 FFTs against float64


def test_without_whitening_the_difference_and_its_variance_stay_as_they_are():
    image, variance = noise()
    found = whole(image, variance, np.zeros(image.shape, bool), lambda u, v: bell(2.0))
    np.testing.assert_array_equal(found["difference"], image)
    np.testing.assert_array_equal(found["variance"], variance)


def test_the_score_of_white_noise_is_unit_normal():
    image, variance = noise((500, 500))
    score = whole(image, variance, np.zeros(image.shape, bool), lambda u, v: bell(1.5))["score"]
    # 250,000 pixels correlated over 4 pi 1.5^2: 9,000 free ones, 0.75 % a sigma.
    assert score.std() == pytest.approx(1, abs=0.025)
    assert abs(score.mean()) < 4 / np.sqrt(9000)


def test_the_score_of_a_star_is_its_flux_over_its_error():
    variance = np.full((120, 120), 4, np.float32)
    image = np.zeros((120, 120), np.float32)
    image[60 - HALF : 61 + HALF, 50 - HALF : 51 + HALF] = 300 * bell(2.0)
    found = whole(image, variance, np.zeros(image.shape, bool), lambda u, v: bell(2.0))
    assert found["score"][60, 50] == pytest.approx(300 * np.sqrt((bell(2.0) ** 2).sum() / 4), rel=1e-4)


def test_a_lopsided_psf_is_not_mirrored():
    psf = bell(2.0)
    psf[HALF + 4, HALF + 3] += 0.3
    image = np.zeros((100, 100), np.float32)
    image[50 - HALF : 51 + HALF, 50 - HALF : 51 + HALF] = psf
    score = whole(image, np.ones_like(image), np.zeros(image.shape, bool), lambda u, v: psf)["score"]
    assert np.unravel_index(score.argmax(), score.shape) == (50, 50)


KERNEL, TARGET, CONVOLVED = bell(1.6), 20.0, 45.0


def correlated(shape=(420, 420), seed=3):
    """Noise of a difference: white, minus white seen through the kernel."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, CONVOLVED**0.5, (shape[0] + 2 * HALF, shape[1] + 2 * HALF))
    return (rng.normal(0, TARGET**0.5, shape) - fftconvolve(rough, KERNEL, mode="valid")).astype(np.float32)


def whitened(image):
    level = TARGET + CONVOLVED * (KERNEL**2).sum()
    variance = np.full(image.shape, level, np.float32)
    whiten_at = whiten_by(KERNEL, TARGET, CONVOLVED)
    return whole(image, variance, np.zeros(image.shape, bool), lambda u, v: bell(2.0), whiten_at)


def test_whitening_makes_correlated_noise_white():
    image = correlated()
    use = np.ones(image.shape, bool)
    before, _ = autocorrelation(image, use, 3)
    after, _ = autocorrelation(whitened(image)["difference"], use, 3)
    assert before[3, 4] > 0.06 * before[3, 3]
    after[3, 3], middle = 0, after[3, 3]
    # 176,000 pixels: a mean product scatters by 1 / 420 of the variance; four sigma for the worst of 24.
    assert np.abs(after).max() < 4.5 / 420 * middle


def test_after_whitening_the_variance_is_that_of_the_pixels():
    found = whitened(correlated())
    inner = (slice(40, -40),) * 2
    ratio = found["difference"][inner].var() / found["variance"][inner].mean()
    assert ratio == pytest.approx(1, abs=4 * np.sqrt(2) / 340)


def test_whitening_conserves_flux():
    image = np.zeros((300, 300), np.float32)
    image[150 - HALF : 151 + HALF, 140 - HALF : 141 + HALF] = 1000 * bell(2.0)
    # psi is 1 at zero frequency; 1e-6 of its energy lies beyond the halo.
    assert whitened(image)["difference"].sum() == pytest.approx(1000, rel=2e-3)


def test_whitening_across_tile_borders_is_the_same_as_in_one_tile():
    image = correlated((300, 300))
    variance, lost = np.full(image.shape, 30, np.float32), np.zeros(image.shape, bool)
    whiten_at = whiten_by(KERNEL, TARGET, CONVOLVED)
    pieces = [whole(image, variance, lost, lambda u, v: bell(2.0), whiten_at, side) for side in (96, 1024)]
    inner = (slice(HALO, -HALO),) * 2
    # The filter beyond the halo has 1e-6 of the energy, a thousandth of the noise's sigma.
    assert np.abs(pieces[0]["difference"] - pieces[1]["difference"])[inner].max() < 0.01 * 30**0.5


def test_mean_power_is_the_variance_of_a_pixel():
    for size in (64, 75):
        power = score_tiles.noise_power(np.fft.rfft2(KERNEL, (size, size)), TARGET, CONVOLVED)
        expected = TARGET + CONVOLVED * (KERNEL**2).sum()
        assert score_tiles.mean_power(power, size) == pytest.approx(expected, rel=1e-9)


def test_the_power_of_an_autocorrelation_is_that_of_its_kernel():
    reach = 2 * HALF
    found = score_tiles.extra_power(of_kernel(KERNEL, reach), 64)
    np.testing.assert_allclose(found, np.abs(np.fft.rfft2(KERNEL, (64, 64))) ** 2, atol=1e-12)


def test_the_reach_of_a_filter_holds_all_but_the_share_given():
    image = np.zeros((32, 32))
    image[0, 0], image[0, 3], image[-5, 0] = 1, 0.1, 0.001
    assert score_tiles.reach_of(image, 1e-4) == 3
    assert score_tiles.reach_of(image, 1e-8) == 5


def test_a_star_brighter_than_a_thousand_skies_keeps_its_value():
    variance = np.full((200, 200), 10, np.float32)
    image = np.zeros((200, 200), np.float32)
    variance[100 - HALF : 101 + HALF, 100 - HALF : 101 + HALF] += 1.2e6 * bell(2.0)
    assert not whole(image, variance, np.zeros(image.shape, bool), lambda u, v: bell(2.0))["lost"].any()


# ---------------------------------------------------------------- the CUDA body
def job(shape, seed, half, whiten_at, size, reach):
    """(image, variance, lost, filters for tiles of that size, for a GPU) of one image, with holes and pixels of no
    use."""
    rng = np.random.default_rng(seed)
    image, variance = noise(shape, seed)
    lost = rng.random(shape) < 0.01
    lost[10:30, 15:40] = True
    variance[35:40, :9] = 1e9
    image[lost] = 0

    def profile_at(u, v):
        psf = bell(2.0 + 0.3 * u, half)
        psf[half, half + 1] *= 1.1 + 0.1 * v
        return psf

    made = (score_tiles.filters(profile_at, whiten_at, side, reach) for side in (size, score_tiles.SQUARE))
    return image, variance, lost, *made


@pytest.mark.parametrize(
    ("batch", "shape", "half", "reach", "white"),
    [
        (1, (97, 120), 10, 12, True),
        (9, (45, 61), 6, 4, True),
        (2, (70, 131), 12, 0, False),
        (1, (90, 75), 31, 24, True),
    ],
)
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape, half, reach, white):
    pieces = tiles(shape, 40 + 2 * (half + reach), half + reach)
    whiten_at = whiten_by(bell(1.2, 4), TARGET, 5.0) if white else None
    jobs = [job(shape, seed, half, whiten_at, pieces[0].size, reach) for seed in range(batch)]
    *planes, made, there = zip(*jobs, strict=True)
    planes = [np.stack(plane) for plane in planes]
    scored = score_tiles.score_tiles_cuda(launcher, *planes, there, pieces, used_up=True)
    got = [launcher.download(one) for one in scored]
    for n in range(batch):
        for tile in pieces:
            cut = (np.ascontiguousarray(plane[n][tile.outer]) for plane in planes)
            expected = score_tiles.score_tile(*cut, made[n], tile)
            at = (n, *tile.core)
            kept = ~expected.lost
            np.testing.assert_array_equal(got[3][at], expected.lost)
            assert np.isnan(got[0][at][expected.lost]).all()
            # 1e-9 of the filter's energy is left out, 3e-5 sigma rms, sigma 5; the halo on the CPU, 12 px or less,
            # leaves out as much at the rim of the PSF.
            limit = 2e-4
            np.testing.assert_allclose(got[0][at][kept], expected.difference[kept], atol=limit * 5)
            np.testing.assert_allclose(got[1][at][kept], expected.variance[kept], rtol=1e-6)
            np.testing.assert_allclose(got[2][at], expected.score, atol=limit)


@pytest.mark.parametrize("side", range(1, 64, 2))
def test_every_filter_and_psf_fits_into_shared_memory(side):
    warps = score_tiles.warps_for(49, side)
    assert max(score_tiles.shared_bytes(49, 1, warps), score_tiles.shared_bytes(side, 2, warps)) <= 96 << 10


def test_cuda_body_refuses_planes_of_another_shape(launcher):
    pieces = tiles((80, 90), 60, 10)
    image, variance, lost, _, made = job((80, 91), 1, 10, None, pieces[0].size, 0)
    with pytest.raises(WrongShape, match="expected 1 images of \\(80, 90\\) px"):
        score_tiles.score_tiles_cuda(launcher, image[None], variance[None], lost[None], [made], pieces)

"""A pixel PSF from stars: centred, flux-scaled stamps, each pixel a polynomial over the field."""

import math
from typing import Any

import numpy as np
import scipy.fft

from gpudiff.arrays.box import grown
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.measure import shifted_cuda
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.positive import solve_positive
from gpudiff.arrays.stamps import stamps

Places = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""(y, x, dy, dx) (N,) of stars as `centred` takes them."""


def centred(image: np.ndarray, y: np.ndarray, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, half: int):
    """(N, 2 half + 1, ...) float32 stamps shifted so that each star's centre is the middle pixel's.

    The shift is a phase in Fourier space: exact for a well-sampled, isolated star.
    y, x : whole-pixel positions; dy, dx : the centre's offset from there
    """
    cut = stamps(image, y, x, half).astype(np.float32)
    size = _period(half)
    spectrum = scipy.fft.rfft2(cut, s=(size, size))
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    for wave in (ky * dy[:, None, None], kx * dx[:, None, None]):
        spectrum *= np.exp(2j * np.pi * wave).astype(np.complex64)
    side = 2 * half + 1
    return scipy.fft.irfft2(spectrum, s=(size, size))[:, :side, :side]


def _period(half: int) -> int:
    """Pixels after which what is moved by `centred` comes round again."""
    return scipy.fft.next_fast_len(2 * half + 9, real=True)


def moved(spectrum: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """(S, S // 2 + 1) spectrum of an image, of that one (S, S), S even, moved by (dy, dx) pixels."""
    size = len(spectrum)
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    return spectrum * (np.exp(-2j * np.pi * dy * ky) * np.exp(-2j * np.pi * dx * kx))


CLIP = 4.0
"""Standard errors by which a pixel of a star may differ from the PSF, and a star in its width."""
VARYING = 0.5
"""Share of its light by which a pixel of a PSF may well change between the middle of the field and its edge."""
ROUNDS = 4
"""Fits, each of what the one before left."""


def fit(stars: np.ndarray, terms: np.ndarray, noise: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """(coefficients (P, K, K), kept (N,) bool): the PSF's polynomial, pixels and stars that disagree clipped.

    Each pixel is fitted by itself, the stars weighted by one over their squared error there: the bright ones tell
    of the wings, all alike of the core.  It is expected to vary over the field by VARYING of its light (standard
    deviation of a Gaussian prior): where stars are too few or too faint to tell, it stays as it is on average.
    A neighbour that shows in the wings is left out with all within `reach` of what shows; a star wider than the
    others (a galaxy, two stars in one) or narrower (a cosmic ray) is left out whole.

    stars : (N, K, K) float32 from `centred`; terms : (N, P) field polynomial, 1 first; noise : (N,) sky sigma
    reach : pixels along an axis
    """
    count, side = stars.shape[:2]
    half = side // 2
    values, terms32 = stars.reshape(count, -1), terms.astype(np.float32)
    axis = np.arange(-half, half + 1)
    core = (np.hypot(axis, axis[:, None]) <= 6).ravel()
    inner, weight = values[:, core].astype(float), np.ones((count, core.sum()))
    flux = inner.sum(1)
    ordered = np.sort(values / flux[:, None].astype(np.float32), 0)  # a tenth of the time of np.median
    model = np.repeat(ordered[(count - 1) // 2 : count // 2 + 1].mean(0)[None], count, 0)
    scaled, light, error, part = (np.empty_like(model) for _ in range(4))  # memory that rounds have in common
    kept = np.ones(count, bool)
    coefficients = np.zeros((terms.shape[1], side * side))
    for _ in range(ROUNDS):
        use = weight * model[:, core]
        flux = (inner * use).sum(1) / np.maximum((model[:, core] * use).sum(1), 1e-12)
        good = flux > 0
        safe = np.where(good, flux, 1)
        np.divide(values, safe[:, None].astype(np.float32), out=scaled)
        np.abs(model, out=light)
        expected = np.maximum(VARYING * light.mean(0, dtype=float), 1e-12)
        _error(light, (noise / safe).astype(np.float32)[:, None], error, part)
        above = np.subtract(scaled, model, out=part)
        limit = np.multiply(error, CLIP, out=light)
        bright = above > limit
        off = bright | (above < np.negative(limit, out=limit))
        wider = _wider(scaled, model, error, core)
        kept = good & (off[:, core].mean(1) < 0.1) & (np.abs(wider) < CLIP * max(1.0, robust_sigma(wider)))
        off |= _near(bright, reach) & ~core
        weight = (~off[:, core]).astype(float)
        if kept.sum() < terms.shape[1]:
            kept = good
        np.copyto(scaled, model, where=off)
        np.multiply(error, error, out=error)
        weights = np.divide(kept[:, None].astype(np.float32), error, out=error)
        coefficients = _weighted(terms32, scaled, weights, expected)
        np.matmul(terms32, coefficients.astype(np.float32), out=model)
    return coefficients.reshape(-1, side, side), kept


def of_stars(
    image: np.ndarray, places: Places, half: int, terms: np.ndarray, noise: np.ndarray, reach: int
) -> np.ndarray:
    """(P, K, K) the PSF's polynomial by `fit` to the `centred` stamps of stars."""
    return fit(centred(image, *places, half), terms, noise, reach)[0]


def _error(light: np.ndarray, relative: np.ndarray, out: np.ndarray, part: np.ndarray) -> None:
    """Into `out` by how much a star's pixels may differ from the model: noise, photons, and 2 % of the model.

    light : (N, K K) of the model, positive, as are `out` and `part`, whose values are lost
    relative : (N, 1) noise of a sky pixel over the star's flux
    """
    np.multiply(light, relative, out=out)
    np.sqrt(out, out=out)
    out *= 0.1
    out += np.multiply(light, 0.02, out=part)
    out += relative


def _near(lit: np.ndarray, reach: int) -> np.ndarray:
    """(N, K K) bool: within `reach` pixels along an axis of what is lit on the same star."""
    some, side = lit.any(1), math.isqrt(lit.shape[1])
    out = np.zeros_like(lit)
    out[some] = grown(lit[some].reshape(-1, side, side), reach).reshape(-1, side * side)
    return out


def _wider(scaled: np.ndarray, model: np.ndarray, error: np.ndarray, core: np.ndarray) -> np.ndarray:
    """(N,) by how many standard errors each star is wider than the model, all (N, K K); `core` (K K,) bool.

    A star is taken for the model plus a share of what a slight blur adds to it: least squares in the core.
    """
    side = math.isqrt(len(core))
    pixels = np.arange(len(core)).reshape(side, side)
    beside = [np.roll(pixels, step, axis).ravel()[core] for axis in (0, 1) for step in (-1, 1)]
    image, star = model[:, core].astype(float), scaled[:, core]
    blur = sum(model[:, one] for one in beside) / np.float32(4) - image
    weight = 1 / error[:, core].astype(float) ** 2

    def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij,ij->i", weight, first, second)

    light, both = product(image, image), product(image, blur)
    determinant = light * product(blur, blur) - both**2
    share = light * product(blur, star) - both * product(image, star)
    return np.asarray(share / np.sqrt(light * determinant))


def _weighted(terms: np.ndarray, values: np.ndarray, weights: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(P, n) float64 least-squares coefficients of each column of `values` (N, n) under its own `weights` (N, n).

    terms : (N, P) float32, as are both; expected : (n,) standard deviation of the prior of every coefficient but
    the first
    """
    number = terms.shape[1]
    row, column = np.triu_indices(number)
    sums = ((terms[:, row] * terms[:, column]).T @ weights).astype(float)
    matrices = np.empty((number, number, sums.shape[1]))
    matrices[row, column] = matrices[column, row] = sums
    matrices[range(1, number), range(1, number)] += 1 / expected**2
    right = terms.T @ np.multiply(weights, values)
    return solve_positive(matrices, right[:, None].astype(float))[:, 0]


WING = 3.0
"""Radius, FWHM, beyond which the PSF is round and the same over the field: stars are too faint to say more."""
INNER, FURTHER = 1.25, 2.25
"""Radii, FWHM, of the rings whose power law is continued to the rim."""
RIM = 6
"""Pixels at the edge of the stamp in which the pedestal is measured."""
FLATTEST = 11 / 6
"""Moffat's beta of wings that turbulent air makes, r^(-11/3) (Racine 1996, PASP 108, 699): none is flatter."""


def clean_wings(coefficients: np.ndarray, fwhm: float) -> np.ndarray:
    """(P, K, K) the same PSF without the light of stars' neighbours.

    Faint neighbours lift the wings of an average star by a pedestal; what the rings at the rim show beyond the
    power law that the rings at 1.25 and 2.25 FWHM continue is taken for it.  Means, not medians, for it is in the
    sum over the wings that neighbours have to leave nothing.  Beyond 3 FWHM the PSF is the falling
    profile closest to its ring means (isotonic regression), so that noise adds no light.

    fwhm : pixels
    """
    half = coefficients.shape[1] // 2
    axis = np.arange(-half, half + 1)
    radius = np.hypot(axis, axis[:, None])
    middle = coefficients[0].copy()
    wing = WING * fwhm
    if half >= wing + RIM / 2:
        middle -= _pedestal(middle, radius, half, fwhm)
        middle = np.where(radius > wing, _falling(middle, radius, half), middle)
    out = coefficients * np.clip(wing + 2 - radius, 0, 1)
    out[0] = np.where(radius <= half, middle, 0)
    return out


def _pedestal(image: np.ndarray, radius: np.ndarray, half: int, fwhm: float) -> float:
    outer = (radius > half - RIM) & (radius <= half)
    pedestal = 0.0
    for _ in range(4):
        inner, further = (_ring_mean(image - pedestal, radius, r * fwhm) for r in (INNER, FURTHER))
        slope = np.log(max(inner, 1e-12) / max(further, 1e-12)) / np.log(FURTHER / INNER)
        steps = np.median(radius[outer]) / (FURTHER * fwhm)
        pedestal = float(image[outer].mean()) - max(further, 0.0) * steps ** -np.clip(slope, 2.5, 12)
    return pedestal


def _falling(image: np.ndarray, radius: np.ndarray, half: int) -> np.ndarray:
    """(K, K) the never rising, never negative profile closest to the means of the image's rings.

    Antitonic regression by the min-max formula (Robertson, Wright & Dykstra 1988, section 1.4).
    """
    ring = np.minimum(np.rint(radius).astype(int), half)
    light = np.concatenate([[0], np.bincount(ring.ravel(), image.ravel()).cumsum()])
    pixels = np.concatenate([[0], np.bincount(ring.ravel()).cumsum()])
    index = np.arange(half + 1)
    first, last = index[:, None], index
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (light[last + 1] - light[first]) / (pixels[last + 1] - pixels[first])
    profile = [np.nanmin(np.max(mean[: n + 1, n:], 1)) for n in index]
    return np.maximum(profile, 0)[ring]


def _ring_mean(image: np.ndarray, radius: np.ndarray, at: float) -> float:
    return float(image[np.abs(radius - at) <= 0.7].mean())


def lacking(image: np.ndarray, fwhm: float) -> float:
    """Light beyond the reach of a PSF's pixels, a unit of their sum; 0 for a Gaussian.

    Stamps of stars and matching kernels end a few FWHM out, and seeing throws light farther.  Beyond 2.25 FWHM the
    PSF has the light of the Moffat profile (Moffat 1969) through its middle and its rings at 1.25 and 2.25 FWHM,
    or that of its pixels, if that is more.

    image : (K, K) from the middle of a PSF of unit sum; fwhm : pixels
    """
    half = image.shape[-1] // 2
    axis = np.arange(-half, half + 1)
    radius = np.hypot(axis, axis[:, None])
    edges = INNER * fwhm, min(FURTHER * fwhm, half)
    middle, inner, further = float(image[half, half]), *(_ring_mean(image, radius, edge) for edge in edges)
    if not middle > inner > further > 0:
        return 0.0
    with np.errstate(divide="ignore"):
        near, far = (_ring_mean(radius**-4, radius, edge) ** -0.25 for edge in edges)  # they fall about so fast
    falls = np.log(middle / inner), np.log(middle / further)
    scales = fwhm * np.geomspace(0.1, 10, 1000)
    ratios = np.log1p((far / scales) ** 2) / np.log1p((near / scales) ** 2)  # rise with the scale
    wanted = falls[1] / falls[0]
    if not ratios[0] < wanted < ratios[-1]:  # no wing of a star's, or as steep as a Gaussian
        return 0.0
    scale = np.interp(wanted, ratios, scales)
    beta = max(falls[0] / np.log1p((near / scale) ** 2), FLATTEST)
    moffat = further * ((scale**2 + radius**2) / (scale**2 + far**2)) ** -beta
    light = np.pi * scale**2 / (beta - 1) * moffat[half, half]
    return float(max(light + (image - moffat)[radius <= edges[1]].sum() - 1, 0))


# ---------------------------------------------------------------- on a GPU
THREADS, LANES = 128, 32
"""Of a block in the CUDA bodies; pixels that a block solves for."""


def centred_cuda(launcher: Launcher, cut: Any, dy: np.ndarray, dx: np.ndarray, half: int) -> Any:
    """`centred` on a GPU, of `stamps` that are there or on the host; what is made stays there."""
    return shifted_cuda(launcher, cut, -dy, -dx, _period(half))


def fit_cuda(
    launcher: Launcher, stars: Any, terms: np.ndarray, noise: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """`fit` on a GPU; what comes back is on the host.  stars : on the device or the host"""
    (count, side, _), number = stars.shape, terms.shape[1]
    pixels = side * side
    there, field = launcher.upload(stars, np.float32), launcher.upload(terms, np.float32)
    flux, kept = launcher.empty((count,), np.float32), launcher.empty((count,), np.uint8)
    made, off = launcher.zeros((number, side, side), np.float64), launcher.zeros((count, side, side), np.uint8)
    table, sigma = launcher.empty((count, 4), np.float64), launcher.upload(noise, np.float64)

    def launch(kernel: str, blocks: int, arguments: list[Any], shared: int = 0) -> None:
        defines = (f"TERMS={number}",)
        launcher.launch("psf", kernel, (blocks, 1, 1), (THREADS, 1, 1), arguments, shared, defines)

    sizes = [np.int32(count), np.int32(pixels)]
    launch("light", count, [there, flux, np.int32(side)])
    launch("middle", pixels, [there, flux, made, *sizes], 4 * count)
    for _ in range(ROUNDS):
        square = [np.int32(side), np.int32(reach)]
        launch("judge", count, [there, field, sigma, made, off, table, *square], shared_bytes(side))
        launch("keep", 1, [table, kept, np.int32(count)], 8 * count)
        launch("solve", -(-pixels // LANES), [there, field, off, table, kept, made, *sizes])
    return launcher.download(made), launcher.download(kept).view(bool)


def of_stars_cuda(
    launcher: Launcher, cut: Any, places: Places, half: int, terms: np.ndarray, noise: np.ndarray, reach: int
) -> np.ndarray:
    """`of_stars` on a GPU, of `stamps` that are there or on the host; on the host."""
    return fit_cuda(launcher, centred_cuda(launcher, cut, *places[2:], half), terms, noise, reach)[0]


def shared_bytes(side: int) -> int:
    """Shared memory of a block of `judge`."""
    return (4 + 1 + 1) * side**2

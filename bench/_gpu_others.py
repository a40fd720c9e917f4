"""The kernels beside the two passes, launched as the engine does, checked, for bench/gpu.py to time."""

from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage

from gpudiff.arrays import (
    afar,
    basis,
    cosmic_rays,
    decode,
    measure,
    normal,
    psf,
    quiet_sky,
    residual_sky,
    retouch,
    star_light,
    streaks,
    trails,
    zone_join,
)
from gpudiff.arrays import stamps as squares
from gpudiff.arrays.components import beyond, beyond_cuda, listed_cuda, tops, tops_cuda
from gpudiff.arrays.cutouts import cutouts, cutouts_cuda
from gpudiff.arrays.mesh import clipped_mesh, mesh_cuda
from gpudiff.arrays.moments import moments, moments_cuda
from gpudiff.arrays.peaks import peaks, peaks_cuda
from gpudiff.arrays.polynomial import terms
from gpudiff.arrays.resample import lattice, resample, resample_cuda
from gpudiff.arrays.tiles import tiles

FIELD = 210.0
"""Arcmin, side of a visit's field."""
CUTOUTS, SIDE = 180, 51
"""Of a detector: sources times planes; px."""
BAND = 64
"""Rows of the resampled image that are checked: on the CPU a whole one takes seconds."""


def planes(launcher: Any, scores: Any, size: int, batch: int) -> None:
    """Decoding, retouching and the search for tops of a batch.  scores : (B, size, size) on the device"""
    rng = np.random.default_rng(batch)
    for (y, x, _), one in zip(tops_cuda(launcher, scores, 5.0), launcher.download(scores), strict=True):
        np.testing.assert_array_equal((y, x), tops(one, 5.0))
    channel = decode.Channel((0, size, 0, size), (0, 0), 1000.0, 1.5, 6.0, 60000.0, (1.0, 4e-7))
    signature = decode.Signature((size, size), [channel])
    raw, marks = rng.integers(1300, 1700, (batch, size, size), np.uint16), decode.Marks(2, 1, 256)
    made = decode.decode_cuda(launcher, raw, None, [signature] * batch, marks)
    expected = decode.decode(raw[-1], None, signature, marks)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(launcher.download(one)[-1], other)
    image = made[0]
    rows, columns = rng.normal(0, 1, (batch, size, 16)), rng.normal(0, 1, (batch, 16, size))
    retouch.take_sky_cuda(launcher, image, rows, columns)
    retouch.rescale_cuda(launcher, image, np.full(batch, 1.5))
    retouch.lift_cuda(launcher, image, np.full((batch, size, 16), 0.125), np.ones((batch, 16, size)))
    sky = expected[0] - rows[-1] @ columns[-1]
    np.testing.assert_allclose(launcher.download(image)[-1], 3 * sky, rtol=1e-5, atol=1e-4)  # float32 sums


def looked_at(launcher: Any, scores: Any, lost: Any, size: int, batch: int) -> None:
    """Sky mesh, candidates of stars and cosmic rays, resampling, single pixels and cutouts of a batch.

    scores : (B, size, size) float32, lost : the same of uint8, on the device
    """
    image, gone = (launcher.download(planes[-1:])[0] for planes in (scores, lost))
    gone = gone.view(bool)
    cell = min(256, size)
    level, sigma = mesh_cuda(launcher, scores, lost, cell, 4)
    expected = clipped_mesh(image, gone, cell, 4)
    np.testing.assert_allclose((level[-1], sigma[-1]), expected, rtol=1e-12, atol=1e-12)  # the mean's sum
    found = peaks_cuda(launcher, scores, [3.0] * batch, lost)[-1]
    np.testing.assert_array_equal(found, peaks(image, 3.0, gone))
    bell = np.exp(-0.5 * (np.arange(-6, 7) / 1.7) ** 2)
    given = image, gone, 0.5, 1.0, np.outer(bell, bell) / bell.sum() ** 2
    at = cosmic_rays.suspects_cuda(launcher, scores[-1:], 0.5, 1.0, cosmic_rays.sharpest(given[-1]))
    np.testing.assert_array_equal(cosmic_rays.cosmic_rays(*given, at), cosmic_rays.cosmic_rays(*given))
    _resampled(launcher, scores, lost, image, gone)
    rng = np.random.default_rng(batch)
    pixels = np.arange(0, batch * size * size, 997)
    values = rng.normal(0, 1, len(pixels)).astype(np.float32)
    changed, marks = launcher.copy(scores), launcher.zeros(scores.shape, np.uint8)
    retouch.put_cuda(launcher, changed, pixels, values)
    retouch.mark_cuda(launcher, marks, pixels)
    _stays(launcher, scores[-1:], image, lost[-1:])
    _quiet(launcher, scores, lost, image, gone)
    last = pixels >= (batch - 1) * size * size
    its = pixels[last] - (batch - 1) * size * size
    np.testing.assert_array_equal(launcher.download(changed[-1:]).reshape(-1)[its], values[last])
    np.testing.assert_array_equal(np.flatnonzero(launcher.download(marks[-1:])), its)
    x, y = rng.uniform(0, size, (2, batch * CUTOUTS))
    cut = cutouts_cuda(launcher, scores, np.arange(batch).repeat(CUTOUTS), x, y, SIDE)
    np.testing.assert_array_equal(cut[-CUTOUTS:], cutouts(image, x[-CUTOUTS:], y[-CUTOUTS:], SIDE))


def _stays(launcher: Any, there: Any, image: np.ndarray, lost: Any) -> None:
    """Of a plane that stays, of one detector: pixels, squares, rows and columns, bright pixels, cells."""
    size = len(image)
    numbers = np.arange(0, size * size, 997)
    np.testing.assert_array_equal(afar.pixels_cuda(launcher, there, numbers), afar.pixels(image, numbers))
    y, x = np.divmod(numbers[::6], size)
    np.testing.assert_array_equal(afar.stamps_cuda(launcher, there, y, x, 15), squares.stamps(image, y, x, 15))
    np.testing.assert_array_equal(afar.flagged_cuda(launcher, lost), np.flatnonzero(launcher.download(lost)))
    thin = range(0, size, 5)
    np.testing.assert_array_equal(afar.lattice_cuda(launcher, there, thin, thin), afar.lattice(image, thin, thin))
    ones, psf = np.ones_like(image), np.full((len(y), 9, 9), 1 / 81)
    planes = launcher.upload(ones[None], np.float32), lost
    gone = launcher.download(lost)[0].view(bool)
    found = star_light.light_round_cuda(launcher, there, *planes, y, x, psf, 3)
    for got, expected in zip(found, star_light.light_round(image, ones, gone, y, x, psf, 3), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * expected.max())  # float32 sums
    np.testing.assert_array_equal(beyond_cuda(launcher, there, 4.0)[0], beyond(image, 4.0))
    side = max(streaks.FINEST, -(-size // streaks.MOST_CELLS))
    found = streaks.cells_cuda(launcher, there, side)[0]
    np.testing.assert_allclose(found, streaks.cells(image, side), atol=1e-5)  # float32 sums
    both = np.stack([found, found != 0])
    assert streaks.steepest_cuda(launcher, both) == list(streaks.steepest_lines(both))


def _quiet(launcher: Any, scores: Any, lost: Any, image: np.ndarray, gone: np.ndarray) -> None:
    """The blank sky of a batch, image and model being the same, of a variance of 1, and its sums."""
    pieces = tiles(image.shape, 256, 12)
    ones = launcher.upload(np.ones(scores.shape), np.float32)
    given = (scores, ones, scores, lost), pieces, [1.0] * len(scores), [12] * len(scores)
    blank, sums = quiet_sky.quiet_sky_cuda(launcher, *given)
    blank = launcher.download(blank[-1:])[0].view(bool)
    for tile in (pieces[0], pieces[-1]):
        own = image[tile.core], np.ones_like(image[tile.core]), image[tile.core], gone[tile.core]
        expected, total = quiet_sky.quiet_sky(*own, 1.0, 12)
        np.testing.assert_array_equal(blank[tile.core], expected)
        np.testing.assert_allclose(sums[-1, tile.index], total, rtol=1e-5, atol=1e-3)  # float32 sums
    job = sums[-1, 0].astype(float), 1.8, 1, 1
    [surface] = residual_sky.fitted_cuda(launcher, [job])
    np.testing.assert_allclose(surface, residual_sky.fitted(*job), rtol=1e-8, atol=1e-8)  # sums in another order
    changed = launcher.download(quiet_sky.changed_cuda(launcher, scores, ones, lost)[-1:])[0].view(bool)
    np.testing.assert_array_equal(changed, quiet_sky.changed(image, np.ones_like(image), gone))
    seen = launcher.download(quiet_sky.sigmas_cuda(launcher, scores, ones, lost, 3.0)[-1:])[0]
    np.testing.assert_array_equal(seen, quiet_sky.sigmas(image, np.ones_like(image), gone, 3.0))


def _resampled(launcher: Any, images: Any, bad: Any, image: np.ndarray, gone: np.ndarray) -> None:
    """A batch turned by half a degree.  image, gone : the last of it on the host"""
    batch, size = len(images), len(image)
    marks = np.zeros(image.shape, np.int32)
    turned, sigma = partial(_turned, size / 2), 1.4
    places = [lattice(turned, image.shape)] * batch
    there = launcher.zeros(images.shape, np.int32)
    values, lost, _ = resample_cuda(launcher, images, bad, there, places, [sigma] * batch)
    expected = resample(image, gone, marks, lattice(turned, (min(BAND, size), size)), sigma)
    np.testing.assert_array_equal(launcher.download(lost[-1:])[0][:BAND].view(bool), expected[1])
    off = np.abs(launcher.download(values[-1:])[0][:BAND] - expected[0])
    # A position within rounding of half a phase may take the next one, 5e-4 px away; the rest by float32 sums.
    assert off.max() < 0.02
    assert (off > 1e-4).mean() < 1e-3


def _turned(middle: float, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dy, dx = y - middle, x - middle
    return y + 0.3 - 8.7e-3 * dx, x - 0.2 + 8.7e-3 * dy


def fit(launcher: Any, stars: int, stamp: int, half: int) -> None:
    """The stamps of one detector convolved with the full basis, and their normal equations."""
    rng = np.random.default_rng(stars)
    axis = np.arange(-10, 11)
    psf = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 1.5**2)
    made = basis.basis(basis.FULL, 1.3, half, psf / psf.sum())
    stamps = rng.normal(0, 5, (stars, stamp + 2 * half, stamp + 2 * half)).astype(np.float32)
    target, weights = rng.normal(0, 5, (stars, stamp**2)), rng.uniform(0.5, 2, (stars, stamp**2))
    values = basis.convolve_cuda(launcher, made, stamps, stamp)
    sums = normal.grams_cuda(launcher, values, target, weights)
    first = launcher.download(values)[:1]
    expected = made.convolve(stamps[:1], stamp)
    np.testing.assert_allclose(first, expected, atol=3e-6 * np.abs(expected).max())  # float32 sums, mixed
    own = normal.grams(first, target[:1].astype(np.float32), weights[:1].astype(np.float32))
    np.testing.assert_allclose(sums[:1], own, rtol=1e-9, atol=1e-9 * np.abs(own).max())  # double
    normal.models_cuda(launcher, values, rng.normal(0, 1, (stars, len(made.functions))))


def star_psf(launcher: Any, measured: int, stars: int, side: int) -> None:
    """The moments of so many stars of one image, and its PSF, second-order over the field, from fewer."""
    rng = np.random.default_rng(stars)
    axis = np.arange(side) - side // 2
    shape = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 1.5**2) / (2 * np.pi * 1.5**2)
    values = rng.uniform(1e3, 1e5, (stars, 1, 1)) * shape + rng.normal(0, 5, (stars, side, side))
    given = values.astype(np.float32), terms(*rng.uniform(-1, 1, (2, stars)), 2), np.full(stars, 5.0), 4
    found, expected = psf.fit_cuda(launcher, *given), psf.fit(*given)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5 * expected[0].max())  # NumPy's sums are float32
    small = rng.normal(50, 5, (measured, 15, 15)).astype(np.float32)
    np.testing.assert_allclose(moments_cuda(launcher, small, 2.0), moments(small, 2.0), atol=1e-9)  # double


def cut(launcher: Any, scores: Any, sources: int, side: int) -> None:
    """Stamps round the first tops of a batch.  scores : (B, size, size) on the device, image and variance here"""
    counts, places, _ = listed_cuda(launcher, scores, 5.0, 256)
    made = measure.weighed_cuda(launcher, scores, scores, counts, places, sources, side // 2)
    used = min(int(launcher.download(counts)[-1]), sources)
    score = launcher.download(scores)[-1]
    at = np.divmod(launcher.download(places)[-1, :used], score.shape[1])
    for one, other in zip(made, measure.weighed(score, score, *at, side // 2), strict=True):
        np.testing.assert_array_equal(launcher.download(one)[-1, :used], other)


def stamps(launcher: Any, sources: int, side: int) -> None:
    """The stamps of one detector's sources measured: PSF fit, shift, forced flux and aperture."""
    rng = np.random.default_rng(sources)
    half = side // 2
    axis = np.arange(-half, half + 1)
    psf = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 1.6**2).astype(np.float32)
    psf = np.repeat(psf[None] / psf.sum(), sources, 0)
    (dy, dx), weight = rng.uniform(-0.5, 0.5, (2, sources)), np.full(psf.shape, 0.04, np.float32)
    moved = launcher.download(measure.shifted_cuda(launcher, psf, dy, dx))
    np.testing.assert_allclose(moved, measure.shifted(psf, dy, dx), atol=2e-8)  # of a peak of 0.06
    data = 1000 * moved + rng.normal(0, 5, psf.shape).astype(np.float32)
    fit = measure.fit_points_cuda(launcher, data, weight, psf)
    expected = measure.fit_points(data, weight, psf)
    np.testing.assert_allclose(fit.flux, expected.flux, atol=0.01)  # of an error of 28
    lines = rng.random((180 // trails.STEP, len(trails.LENGTHS), side, side)).astype(np.float32)
    turns, places = (
        np.arange(2 * trails.TURNS + 1) + np.zeros((sources, 1), int),
        trails.PLACES[np.arange(sources) % 9],
    )
    given = lines, np.stack([weight, weight * data], 1), turns, places
    powers, expected = trails.line_powers_cuda(launcher, *given), trails.line_powers(*given)
    np.testing.assert_allclose(powers, expected, rtol=1e-3, atol=1e-5 * expected.max())  # float32 sums that cancel
    found = measure.forced_cuda(launcher, data, weight, moved)
    np.testing.assert_allclose(found, measure.forced(data, weight, moved), rtol=1e-11)
    found = measure.aperture_cuda(launcher, data, 1 / weight, dy, dx, 4.0)
    wide = data.astype(float), (1 / weight).astype(float)
    np.testing.assert_allclose(found, measure.aperture(*wide, dy, dx, 4.0), rtol=1e-11)


def join(launcher: Any, sources: int, known: int) -> None:
    """The detections of a visit with the known objects there, which are on the device."""
    rng = np.random.default_rng(known)
    places, theirs = (30 + FIELD / 60 * rng.random((2, count)) for count in (sources, known))
    zones = zone_join.Zones.of(*theirs, 30.0)
    found = zone_join.zone_join_cuda(launcher, *places, zones.on(launcher))
    np.testing.assert_array_equal(found, zone_join.joined(*places, zones))


def check_labels(labels: np.ndarray, score: np.ndarray, y: np.ndarray, x: np.ndarray) -> int:
    """How many components there are, if the brightest pixel of each is the brightest of its tops; else raises.

    labels : (H, W) int, which component each pixel within 2 px of one at the threshold is of, 0 elsewhere: so no
        pixel of another component is within reach of the 5 x 5 of a top
    """
    count, size = int(labels.max(initial=0)), np.abs(score)
    assert labels[y, x].all(), "a top lies in no component"
    brightest = np.zeros(count + 1, np.float32)
    np.maximum.at(brightest, labels[y, x], size[y, x])
    np.testing.assert_array_equal(brightest[1:], ndimage.maximum(size, labels, np.arange(1, count + 1)))
    return count

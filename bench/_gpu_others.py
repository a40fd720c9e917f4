"""The kernels beside the two passes, launched as the engine does, checked, for bench/gpu.py to time."""

from functools import partial
from typing import Any

import numpy as np

from gpudiff.arrays import basis, decode, normal, retouch
from gpudiff.arrays.components import tops, tops_cuda
from gpudiff.arrays.cutouts import cutouts, cutouts_cuda
from gpudiff.arrays.mesh import clipped_mesh, mesh_cuda
from gpudiff.arrays.peaks import peaks, peaks_cuda
from gpudiff.arrays.resample import lattice, resample, resample_cuda

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
    raw, marks = rng.poisson(1500, (batch, size, size)).astype(np.uint16), decode.Marks(2, 1, 256)
    made = decode.decode_cuda(launcher, raw, None, [signature] * batch, marks)
    expected = decode.decode(raw[-1], None, signature, marks)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(launcher.download(one)[-1], other)
    image = made[0]
    rows, columns = rng.normal(0, 1, (batch, size, 16)), rng.normal(0, 1, (batch, 16, size))
    retouch.take_sky_cuda(launcher, image, rows, columns)
    retouch.rescale_cuda(launcher, image, np.full(batch, 1.5))
    sky = expected[0] - rows[-1] @ columns[-1]
    np.testing.assert_allclose(launcher.download(image)[-1], 1.5 * sky, rtol=1e-5, atol=1e-4)  # float32 sums


def looked_at(launcher: Any, scores: Any, lost: Any, size: int, batch: int) -> None:
    """Sky mesh, star candidates, resampling, single pixels and cutouts of a batch.

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
    _resampled(launcher, scores, lost, image, gone)
    rng = np.random.default_rng(batch)
    pixels = np.arange(0, batch * size * size, 997)
    values = rng.normal(0, 1, len(pixels)).astype(np.float32)
    changed, marks = launcher.copy(scores), launcher.zeros(scores.shape, np.uint8)
    retouch.put_cuda(launcher, changed, pixels, values)
    retouch.mark_cuda(launcher, marks, pixels)
    last = pixels >= (batch - 1) * size * size
    its = pixels[last] - (batch - 1) * size * size
    np.testing.assert_array_equal(launcher.download(changed[-1:]).reshape(-1)[its], values[last])
    np.testing.assert_array_equal(np.flatnonzero(launcher.download(marks[-1:])), its)
    x, y = rng.uniform(0, size, (2, batch * CUTOUTS))
    cut = cutouts_cuda(launcher, scores, np.arange(batch).repeat(CUTOUTS), x, y, SIDE)
    np.testing.assert_array_equal(cut[-CUTOUTS:], cutouts(image, x[-CUTOUTS:], y[-CUTOUTS:], SIDE))


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
    gram, _, _ = normal.grams_cuda(launcher, values, target, weights)
    first = launcher.download(values)[:1]
    expected = made.convolve(stamps[:1], stamp)
    np.testing.assert_allclose(first, expected, atol=3e-6 * np.abs(expected).max())  # float32 sums, mixed
    own = normal.grams(first, target[:1].astype(np.float32), weights[:1].astype(np.float32))[0]
    np.testing.assert_allclose(gram[:1], own, rtol=1e-9, atol=1e-9 * np.abs(own).max())  # double
    normal.models_cuda(launcher, values, rng.normal(0, 1, (stars, len(made.functions))))

"""A difference in which every star was left out of the fit that subtracted it.

The kernel candidates are dealt into FOLDS parts; each part is subtracted with a kernel fitted to the others,
and each pixel is taken from the fit that left out the candidate nearest to it.

`_held_out.py PAIR OUT.fits [--algorithm NAME] [--convolve WHICH]`; exit status 3 for an algorithm that does not
fit a kernel to stars.
"""

import argparse
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import distance_transform_edt

from gpudiff.edges.fits import read_frame
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Frame
from gpudiff.science.align import align
from gpudiff.science.calibrate import calibrate
from gpudiff.science.difference import Matcher, difference
from gpudiff.science.match import KernelFit, match
from gpudiff.science.stars import Stars
from gpudiff.science.subtract import ALGORITHMS

FOLDS = 10
"""Ten: a fit to nine tenths of the stars is nearly the one that a user gets."""


def taken(stars: Stars, keep: np.ndarray) -> Stars:
    """The stars for which keep (N,) is True."""
    columns = {one.name: getattr(stars, one.name) for one in fields(Stars)}
    return replace(stars, **{name: of[..., keep] for name, of in columns.items() if isinstance(of, np.ndarray)})


def spread(fit: KernelFit, keep: np.ndarray) -> KernelFit:
    """The same with what it says of each star in the places of all stars; those left out have 0."""
    changed = {}
    for one in fields(KernelFit):
        value = getattr(fit, one.name)
        if isinstance(value, np.ndarray) and value.shape == (int(keep.sum()),):
            changed[one.name] = np.zeros(len(keep), value.dtype)
            changed[one.name][keep] = value
    return replace(fit, **changed)


def matcher(algorithm: str) -> Matcher | None:
    """What fits the kernel in an algorithm of science.subtract.ALGORITHMS; None where no stars are fitted."""
    engine = ALGORITHMS[algorithm]
    if engine is difference:
        return match
    return engine.keywords.get("fit_kernel") if isinstance(engine, partial) else None


def held_out(
    science: Frame, template: Frame, configuration: Configuration, match_stars: Matcher, seed: int = 1
) -> np.ndarray:
    """(H, W) float32 the plain difference, NaN where there is none."""
    images, owner = [], np.empty(0)
    for fold in range(FOLDS):
        candidates: list[Stars] = []

        def fit(target, convolved, stars, *given, out=fold, seen=candidates):  # type: ignore[no-untyped-def]
            seen.append(stars)
            keep = folds_of(len(stars), seed) != out
            return spread(match_stars(target, convolved, taken(stars, keep), *given), keep)

        exposures = calibrate(science, configuration), calibrate(template, configuration)
        aligned = align(*exposures, configuration)
        made = difference(exposures[0], aligned, configuration, fit_kernel=fit)
        images.append(made.image)
        stars = candidates[0]
        owner = nearest(stars, folds_of(len(stars), seed), made.image.shape) if fold == 0 else owner
    return np.choose(owner, images)


def folds_of(count: int, seed: int) -> np.ndarray:
    """(N,) int: the fold of each candidate."""
    return np.random.default_rng(seed).permutation(count) % FOLDS


def nearest(stars: Stars, folds: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) int: the fold of the candidate nearest to each pixel."""
    label = np.full(shape, -1, np.int8)
    label[stars.y, stars.x] = folds
    y, x = distance_transform_edt(label < 0, return_distances=False, return_indices=True)
    return label[y, x]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--algorithm", default="alard-lupton")
    parser.add_argument("--convolve", default="auto")
    options = parser.parse_args()
    pair, out = options.pair, options.out
    match_stars = matcher(options.algorithm)
    if match_stars is None:
        sys.exit(3)
    configuration = override(Configuration(), "detect", decorrelate=False)
    configuration = override(configuration, "match", algorithm=options.algorithm, convolve=options.convolve)
    science, template = (
        read_frame(pair / f"{name}.fits", configuration.instrument, mask=pair / f"mask_{name}.fits")
        for name in ("sci", "ref")
    )
    image = held_out(science, template, configuration, match_stars)
    fits.writeto(out, image.astype(np.float32), overwrite=True)


if __name__ == "__main__":
    main()

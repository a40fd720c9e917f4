"""Brightness of DIAObjects: moments of the PSF fluxes in each band, and how one more flux changes them."""

import numpy as np

from gpudiff.model.photometry import Light
from gpudiff.model.tables import BANDS, Table

_NAMES = ("Mean", "MeanErr", "Sigma", "Chi2", "Ndata", "Min", "Max", "ErrMean", "PlainMean")


def first_fluxes(sources: Table, light: Light | None) -> dict[str, np.ndarray]:
    """The columns of brightness of objects seen once: each in its own band, NaN and 0 in the others."""
    flux, error, usable = _fluxes(sources, light)
    columns: dict[str, np.ndarray] = {}
    for band in BANDS:
        seen = usable & light.seen_in(band) if light else usable
        once, spread = np.where(seen, flux, np.nan), np.where(seen, error, np.nan)
        values = (once, spread, np.full(len(flux), np.nan), np.where(seen, 0, np.nan), seen)
        columns |= _named(band, (*values, once, once, spread, once))
    return columns


def one_more_flux(objects: Table, sources: Table, light: Light | None) -> dict[str, np.ndarray]:
    """The columns of brightness after one more detection each: row i saw source i.

    Means and sums of squares are carried on from their last values (Welford 1962, Technometrics 4, 419; with
    weights West 1979, CACM 22, 532).  A flux without a positive error counts for nothing.
    """
    flux, error, usable = _fluxes(sources, light)
    columns: dict[str, np.ndarray] = {}
    for band in BANDS:
        seen = usable & light.seen_in(band) if light else usable
        if seen.any():
            rows = np.flatnonzero(seen)
            before = [objects[f"{band}_psfFlux{name}"].astype(float) for name in _NAMES]
            for column, after in zip(
                before, _joined([c[rows] for c in before], flux[rows], error[rows]), strict=True
            ):
                column[rows] = after
            columns |= _named(band, before)
    return columns


def _joined(before: list[np.ndarray], flux: np.ndarray, error: np.ndarray) -> list[np.ndarray]:
    mean, mean_error, sigma, chi2, count, least, most, error_mean, plain = before
    weight = np.where(count > 0, mean_error, np.inf) ** -2.0
    new = error**-2
    off, off_plain = (np.where(count > 0, flux - column, 0) for column in (mean, plain))
    squares = np.nan_to_num(sigma) ** 2 * np.maximum(count - 1, 0) + off_plain**2 * count / (count + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(count > 0, np.sqrt(squares / count), np.nan)
    return [
        np.where(count > 0, mean, flux) + off * new / (weight + new),
        (weight + new) ** -0.5,
        spread,
        np.nan_to_num(chi2) + off**2 * weight * new / (weight + new),
        count + 1,
        np.fmin(least, flux),
        np.fmax(most, flux),
        np.where(count > 0, error_mean, error) + np.where(count > 0, error - error_mean, 0) / (count + 1),
        np.where(count > 0, plain, flux) + off_plain / (count + 1),
    ]


def _fluxes(sources: Table, light: Light | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux and error of each source, and whether they count."""
    if light is None:
        none = np.full(len(sources), np.nan)
        return none, none, np.zeros(len(sources), bool)
    flux, error = sources["psfFlux"] * light.scale, sources["psfFluxErr"] * light.scale
    return flux, error, np.isfinite(flux) & np.isfinite(error) & (error > 0)


def _named(band: str, columns) -> dict[str, np.ndarray]:
    return {f"{band}_psfFlux{name}": column for name, column in zip(_NAMES, columns, strict=True)}

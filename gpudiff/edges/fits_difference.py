"""A Difference to a FITS file that the field's viewers and pipelines read."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io.fits import Card

from gpudiff import __version__
from gpudiff.edges.atomic import atomically
from gpudiff.edges.fits import write_hdus
from gpudiff.edges.fits_ahead import Ahead
from gpudiff.edges.header import card, frame_cards
from gpudiff.edges.sources import binary_table
from gpudiff.model.frame import Difference
from gpudiff.model.mask import DESCRIPTIONS
from gpudiff.model.mask import cards as mask_cards
from gpudiff.model.photometry import nanojansky
from gpudiff.model.tables import DIASOURCE, Table


def write_difference(path: str | Path, difference: Difference, sources: Table) -> None:
    """Write IMAGE, VARIANCE, MASK, SCORE, KERNEL and PSF, under a primary header that says how good they are.

    After them two binary tables say it in detail, where it was measured: QA on a grid of cells, KERNEL_STARS of
    every star of the kernel fit (model.qa).

    IMAGE, VARIANCE, MASK, SCORE : (H, W) with the science frame's WCS; the mask's bits are named by MP_*
    KERNEL : (9, K, K), PSF : (9, P, P), at the centres of a 3 x 3 grid, rows of y outer
    path : .fits, .fits.gz, or .fits.fz (lossless tile compression)

    Numbers that are not known (NaN) are undefined cards.  Raises StoreFailed.
    """
    planes = _planes(difference)
    mask, cards = planes["MASK"]
    planes["MASK"] = mask.astype(np.int32), cards
    write_hdus(path, primary_cards(difference, sources), planes, _tables(difference))


@contextmanager
def difference_file(
    path: str | Path, made: Difference, beside: Executor
) -> Iterator[Callable[[Difference, Table], None]]:
    """`write_difference` by a call of what this yields; `_first` go to disk before it, `beside` what is done then.

    made : the difference before it was searched; its other planes are not held on to.  Of planes on a GPU, and of
        compressed files, nothing is written before the call.

    Raises StoreFailed.
    """
    plain = str(path).endswith(".fits") and isinstance(made.image, np.ndarray)
    cards, first = primary_cards(made, Table.empty(DIASOURCE)), _first(made)
    del made
    if not plain:
        yield lambda difference, sources: write_difference(path, difference, sources)
        return
    with atomically(path) as temporary, open(temporary, "wb") as file:
        ahead = Ahead(file)
        writing = beside.submit(ahead.begin, cards, first)

        def finish(difference: Difference, sources: Table) -> None:
            writing.result()
            ahead.finish(primary_cards(difference, sources), _planes(difference), _tables(difference))

        try:
            yield finish
        finally:
            writing.exception()


def _tables(difference: Difference) -> list[bytes]:
    meta = {"unit": difference.science.frame.unit}
    named = (("QA", difference.cells), ("KERNEL_STARS", difference.stars))
    return [binary_table(name, table, meta) for name, table in named if len(table)]


def primary_cards(difference: Difference, sources: Table) -> list[Card]:
    """Whose difference it is, how it was made, how good it is."""
    q = difference.quality
    named = [
        ("SCIENCE", Path(difference.science.name).name, "science image"),
        ("TEMPLATE", Path(difference.template.name).name, "template image"),
        ("CONVOLVE", q.convolved, "which image was convolved"),
        ("DECORR", bool(difference.decorrelated), "noise was decorrelated"),
        ("ALGORITH", q.algorithm, "matching algorithm"),
        ("NBASIS", q.basis_functions, "basis functions of the matching kernel"),
        ("KORDER", q.spatial_order, "spatial order of the matching kernel"),
        ("KSUM", q.kernel_sum, "photometric scale, science over template"),
        ("KSUMVAR", q.kernel_sum_variation, "KSUM over the field, peak to peak"),
        ("NCAND", q.candidates, "kernel candidates"),
        ("NUSED", q.candidates_used, "kernel candidates kept by the fit"),
        ("CHI2", q.chi2, "median reduced chi2 of the candidates used"),
        ("CHI2HELD", q.chi2_held_back, "the same of candidates held back"),
        ("FWHMSCI", q.science_fwhm, "[pix] PSF of the science image"),
        ("FWHMTMP", q.template_fwhm, "[pix] PSF of the template"),
        ("FWHMDIF", q.matched_fwhm, "[pix] PSF that both were brought to"),
        ("NOISERAT", q.noise_ratio, "std of difference over sigma, blank sky"),
        ("SCORESTD", q.score_std, "std of the score, blank sky"),
        ("SCORESCL", q.score_scale, "divided the score, multiplied flux errors"),
        ("SKYRMS", q.residual_sky, "residual sky, rms of the QA cells, in sigma"),
        ("STARRES", q.star_residual, "share of their light the median stars leave"),
        ("STARLEFT", q.stars_left, "share of candidates that show, chi2 > 3"),
        ("LOSTFRAC", q.lost_fraction, "usable science pixels without a difference"),
        ("NSOURCES", len(sources), "DIASources, flagged ones included"),
        ("NFLAGGED", int(sources["flagged"].sum()), "DIASources not to alert on alone"),
        ("FLUXNJY", _nanojansky(difference), "nJy in one image unit of flux"),
        ("FPRINT", difference.fingerprint, "provenance fingerprint"),
        ("CREATOR", f"gpudiff {__version__}", ""),
    ]
    cards = [card(key, _plain(value), comment) for key, value, comment in named]
    history = [card("HISTORY", note) for note in difference.notes]
    return [*frame_cards(difference.science.frame), *cards, *history]


def _first(difference: Difference) -> dict[str, tuple[np.ndarray, list[Card]]]:
    """The first planes, which the search does not change.  More ahead of it would not pay: what the disk's cache
    takes up as a file is written is quickest taken from memory that was just freed, which is about as much."""
    unit, sky = difference.science.frame.unit, _sky(difference)
    return {
        "IMAGE": (difference.image, [*sky, card("BUNIT", unit)]),
        "VARIANCE": (difference.variance, [*sky, card("BUNIT", f"{unit}**2")]),
    }


def _sky(difference: Difference) -> list[Card]:
    return [card(key, value) for key, value in difference.science.frame.wcs.items()]


def _planes(difference: Difference) -> dict[str, tuple[np.ndarray, list[Card]]]:
    sky = _sky(difference)
    bits = [card(key, number, DESCRIPTIONS[key[3:]]) for key, number in mask_cards().items()]
    return {
        **_first(difference),
        "MASK": (difference.mask, [*sky, *bits]),
        "SCORE": (difference.score, [*sky, card("BUNIT", "", "signal to noise")]),
        "KERNEL": (difference.kernel, []),
        "PSF": (difference.psf, []),
    }


def _nanojansky(difference: Difference) -> float:
    known = nanojansky(difference.science.frame.unit, difference.science.frame.zero_point)
    return float("nan") if known is None else known


def _plain(value: object) -> object:
    """NumPy scalars as Python's."""
    return value.item() if isinstance(value, np.generic) else value

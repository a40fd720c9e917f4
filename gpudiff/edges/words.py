"""What a subtraction says of itself, in words: the summary's lines and the picture's."""

import numpy as np

from gpudiff.model.frame import Difference
from gpudiff.model.sky import Sky
from gpudiff.model.tables import Table


def quality_lines(difference: Difference, sources: Table) -> list[tuple[str, str]]:
    """(label, value) of each number that tells how good the difference is."""
    q = difference.quality
    held = "too few to hold any back" if np.isnan(q.chi2_held_back) else f"{q.chi2_held_back:.3f} held back"
    scaled = "" if q.score_scale == 1 else f", once divided by {q.score_scale:.3f}"
    kernel_sum = f"{q.kernel_sum:.4f}, varies by {100 * q.kernel_sum_variation:.2f} % over the field"
    return [
        ("seeing (FWHM)", _seeing(difference)),
        ("convolved", q.convolved.lower()),
        ("kernel stars", f"{q.candidates_used} used, {q.candidates - q.candidates_used} rejected"),
        ("kernel", f"{q.algorithm}, {q.basis_functions} functions, spatial order {q.spatial_order}"),
        ("kernel sum", kernel_sum),
        ("chi2 of the stars", f"{q.chi2:.3f}, {held}"),
        ("static stars", _stars(difference)),
        ("noise / expected", f"{q.noise_ratio:.3f}{_range(difference, 'noiseRatio')}"),
        ("std of the score", f"{q.score_std:.3f}{scaled}{_range(difference, 'scoreStd')}"),
        ("residual sky", f"{q.residual_sky:.3f} sigma a pixel, rms{_range(difference, 'backgroundSigma')}"),
        ("lost area", f"{100 * q.lost_fraction:.2f} %"),
        ("decorrelated", "yes" if difference.decorrelated else "no"),
        ("detections", ", ".join(f"{number} {kind}" for kind, number in counts(sources).items())),
        ("fingerprint", difference.fingerprint),
    ]


def counts(sources: Table) -> dict[str, int]:
    """How many sources are positive, negative (both unflagged) and flagged."""
    negative, flagged = sources["isNegative"], sources["flagged"]
    return {
        "positive": int((~flagged & ~negative).sum()),
        "negative": int((~flagged & negative).sum()),
        "flagged": int(flagged.sum()),
    }


def pixel_scale(difference: Difference) -> float:
    """Arcsec a pixel in the middle of the science frame; NaN without a WCS."""
    sky = Sky(difference.science.frame.wcs)
    if not sky:
        return float("nan")
    height, width = difference.image.shape
    jacobian = sky.jacobian(np.array([width / 2]), np.array([height / 2]))[0]
    return float(np.sqrt(abs(np.linalg.det(jacobian))) * 3600)


def _stars(difference: Difference) -> str:
    q = difference.quality
    return f"{100 * q.stars_left:.0f} % leave a residual, the median {100 * q.star_residual:.1f} % of its light"


def _range(difference: Difference, column: str) -> str:
    """From the least to the greatest of the grid's cells; '' of a grid that says nothing."""
    values = difference.cells[column]
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return ""
    side = round(len(values) ** 0.5)
    return f"; {known.min():.2f} to {known.max():.2f} in {side} x {side} cells"


def _seeing(difference: Difference) -> str:
    q, scale = difference.quality, pixel_scale(difference)
    said = []
    for name, fwhm in (("science", q.science_fwhm), ("template", q.template_fwhm), ("matched", q.matched_fwhm)):
        arcsec = "" if np.isnan(scale) else f' ({fwhm * scale:.2f}")'
        said.append(f"{name} {fwhm:.2f} px{arcsec}")
    return ", ".join(said)

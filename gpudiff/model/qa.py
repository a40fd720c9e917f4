"""What a subtraction says of itself in detail: cell by cell of the frame, and star by star of the kernel fit."""

from gpudiff.model.tables import Column, Table

_C = Column

CELL: tuple[Column, ...] = (
    _C("row", "i2", "", "of the grid, along y, from 0"),
    _C("column", "i2", "", "of the grid, along x, from 0"),
    _C("x0", "i4", "pixel", "first column of pixels"),
    _C("x1", "i4", "pixel", "the column after the last"),
    _C("y0", "i4", "pixel", "first row of pixels"),
    _C("y1", "i4", "pixel", "the row after the last"),
    _C("noiseRatio", "f4", "", "std of difference over sigma on blank sky; 1 when the noise is as said"),
    _C("scoreStd", "f4", "", "std of the score on blank sky; 1 when it is what it says"),
    _C("background", "f4", "image unit", "mean of the difference on blank sky"),
    _C("backgroundSigma", "f4", "", "the same over the noise of a pixel"),
    _C("nStars", "i4", "", "candidates of the kernel fit"),
    _C("nUsed", "i4", "", "those that the fit kept"),
    _C("chi2", "f4", "", "median over the candidates of the difference's reduced chi2 within a FWHM"),
    _C("residual", "f4", "", "median over the candidates of the rms share of their light that is left there"),
    _C("chi2HeldBack", "f4", "", "median over those kept of their reduced chi2 when held back from the fit"),
    _C("kernelSum", "f4", "", "photometric scale, science over template, in the middle"),
    _C("scienceFwhm", "f4", "pixel", "of its stellar stars in the science image"),
    _C("templateFwhm", "f4", "pixel", "of its stellar stars in the template"),
    _C("matchedFwhm", "f4", "pixel", "of the PSF that both were brought to, in the middle"),
    _C("lostFraction", "f4", "", "pixels with a value in the science image and none in the difference"),
    _C("nDetections", "i4", "", "DIASources, flagged ones included"),
    _C("nFlagged", "i4", "", "DIASources not to alert on alone"),
    _C("poor", "?", "", "all in it is flagged POOR_SUBTRACTION; if only scoreStd is high, what that can make"),
)
"""Cells tile the frame, rows of the grid outer.  A number nobody knows is NaN."""

KERNEL_STAR: tuple[Column, ...] = (
    _C("x", "i4", "pixel", "brightest pixel in the science image"),
    _C("y", "i4", "pixel", "brightest pixel in the science image"),
    _C("peak", "f4", "image unit", "science image there, less its sky"),
    _C("stellar", "?", "", "as wide as most, in both images"),
    _C("used", "?", "", "kept by the fit"),
    _C("chi2", "f4", "", "reduced chi2 of the difference within a FWHM"),
    _C("residual", "f4", "", "rms share of its light that the difference shows there"),
    _C("chi2HeldBack", "f4", "", "reduced chi2 when held back from the fit"),
    _C("scienceFwhm", "f4", "pixel", "in the science image"),
    _C("templateFwhm", "f4", "pixel", "in the template"),
)
"""Stars that the matching kernel was fitted to, or that it rejected."""


def side(cells: Table) -> int:
    """Cells along each side of the grid; 0 of none."""
    return round(len(cells) ** 0.5)

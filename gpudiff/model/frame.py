"""Frame, Exposure, Difference: an image on its way from the camera to its detections."""

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gpudiff.model.mask import UNUSABLE, bit, marked
from gpudiff.model.plane import Plane
from gpudiff.model.qa import CELL, KERNEL_STAR
from gpudiff.model.tables import Table


@dataclass(frozen=True, order=True)
class FrameId:
    """What identifies a frame: the same one always gives the same DIASource ids."""

    visit: int
    snap: int
    detector: int

    def __str__(self) -> str:
        return f"{self.visit}/{self.snap}/{self.detector}"


@dataclass(frozen=True)
class Observation:
    """When and where a frame was taken.  Unknown times and angles are NaN, an unknown band is ''."""

    frame: FrameId
    band: str = ""
    mjd_start_tai: float = float("nan")
    mjd_end_tai: float = float("nan")
    readout_end_tai: float = float("nan")
    exposure_s: float = float("nan")
    boresight_ra: float = float("nan")
    boresight_dec: float = float("nan")
    rotation_deg: float = float("nan")

    @property
    def midpoint_mjd_tai(self) -> float:
        """Middle of the exposure, MJD TAI; NaN when unknown."""
        return 0.5 * (self.mjd_start_tai + self.mjd_end_tai)


TIMES_AND_ANGLES = tuple(one.name for one in dataclasses.fields(Observation) if one.name not in ("frame", "band"))
"""The numbers of an Observation."""


@dataclass(frozen=True)
class Frame:
    """Pixels as they came from a file or a message: read, not yet judged.  A template comes as any frame does.

    name : what errors call it (a path, or "frame 12/0/3")
    image : (H, W) uint16 or float32, any byte order; the science unit is ADU unless the header says otherwise
    mask : (H, W) int32 in gpudiff's bits (model.mask), or None
    variance : (H, W) float32, unit of image squared, or None
    gain : electrons per image unit, or None when nobody said
    read_noise : electrons, or None
    saturation : image units, or None
    wcs : FITS WCS keywords, {} when there is none
    psf : (K, K), or (n*n, K, K) on an n x n grid of field positions row by row, or None: then it is measured
    unit : BUNIT
    zero_point : AB magnitude of one image unit of flux, or None
    calibrated : False for raw pixels with overscan and bias; None when nobody said
    notes : what the user should know of how it was read, one line each
    """

    name: str
    observation: Observation
    image: np.ndarray
    mask: np.ndarray | None = None
    variance: np.ndarray | None = None
    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    wcs: dict[str, Any] = field(default_factory=dict)
    psf: np.ndarray | None = None
    unit: str = "adu"
    zero_point: float | None = None
    calibrated: bool | None = None
    digest: str = ""
    """Hex digest (blake2b-128) of the pixels and of what was said about them; the root of the provenance."""
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of image, mask and variance."""
        return sum(plane.nbytes for plane in (self.image, self.mask, self.variance) if plane is not None)

    def without_planes(self) -> "Frame":
        """What is said of the pixels, without them: an image of (0, 0), no mask, no variance."""
        return dataclasses.replace(self, image=np.empty((0, 0), np.float32), mask=None, variance=None)


@dataclass(frozen=True)
class Exposure:
    """A frame made ready to be subtracted: sky removed, noise known, unusable pixels named.

    frame : what it was made of, without its planes: nobody holds pixels that are no longer needed
    image : (H, W) float32, sky-subtracted; unusable pixels are masked, and 0; those that lie alone
        (arrays.gaps) are filled from round them
    mask : (H, W) uint16, which holds all planes in half the memory of a frame's int32
    sky : Plane, image units; what was subtracted
    sky_variance : Plane, image units squared: sky and read noise, without the sources' own photons
    gain : electrons per image unit, for the sources' photons; inf when unknown (their noise is then ignored)
    variance_known : True when `sky_variance` follows from a variance plane or from gain and read noise; False
        when it was measured from the scatter of the sky
    notes : what the user should know, one line each (how the variance was made, what was masked)
    resampled : True when the pixels were interpolated from another grid: their noise is correlated, and cosmic
        rays were looked for before, on the pixels they struck
    held : name of `image` as it was made, '' for none: unusable pixels may have changed since, no others
    """

    frame: Frame
    image: np.ndarray
    mask: np.ndarray
    sky: Plane
    sky_variance: Plane
    gain: float
    variance_known: bool
    notes: tuple[str, ...] = ()
    resampled: bool = False
    held: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape

    @property
    def name(self) -> str:
        return self.frame.name

    @cached_property
    def unusable(self) -> np.ndarray:
        """(H, W) bool: pixels that tell nothing of the sky.  Who adds to `mask` (`mark`) adds to it."""
        return marked(self.mask, *UNUSABLE)

    @cached_property
    def flaws(self) -> np.ndarray:
        """(N,) numbers of those pixels, row by row: they are few."""
        return np.flatnonzero(self.unusable)

    def knowing(self, unusable: np.ndarray, flaws: np.ndarray) -> "Exposure":
        """Itself, with both from who has them already."""
        vars(self).update(unusable=unusable, flaws=flaws)
        return self

    def mark(self, y: np.ndarray, x: np.ndarray, name: str) -> None:
        """Set an unusable plane of the mask at (N,) pixels, row by row, each once."""
        struck = y * self.shape[1] + x
        fresh = struck[~self.unusable[y, x]]
        flaws = np.insert(self.flaws, np.searchsorted(self.flaws, fresh), fresh)
        self.unusable[y, x] = True
        self.mask[y, x] |= bit(name)
        self.knowing(self.unusable, flaws)

    def without_planes(self) -> "Exposure":
        """The same with an image and a mask of its shape that take no memory: NaN and 0 everywhere."""
        image, mask = (np.broadcast_to(value, self.shape) for value in (np.float32(np.nan), np.uint16(0)))
        return dataclasses.replace(self, image=image, mask=mask, held="")


@dataclass(frozen=True)
class Quality:
    """What a subtraction says about itself: goes to the header, the summary and the ledger.

    Lengths in pixels; `noise_ratio` is std(difference / propagated sigma) on blank sky, before the variance was
    rescaled where the inputs' noise was measured and not known (the notes say so); `score_std` is that of the
    score as it is.  Both are 1 for a good subtraction of images whose noise is known.
    """

    convolved: str  # "TEMPLATE" or "SCIENCE"
    algorithm: str
    science_fwhm: float
    template_fwhm: float
    candidates: int
    candidates_used: int
    basis_functions: int
    spatial_order: int
    chi2: float
    """Median reduced chi2 of the kernel candidates that were used."""
    chi2_held_back: float
    """The same for candidates left out of the fit (cross-validation); NaN with too few."""
    kernel_sum: float
    """Photometric scale: science flux of a source over its template flux, at the centre of the field."""
    kernel_sum_variation: float
    """Peak-to-peak relative variation of the kernel sum over the field."""
    noise_ratio: float
    score_std: float
    score_scale: float
    """By how much flux errors exceed what VARIANCE alone gives: noise that is still correlated over a PSF."""
    lost_fraction: float
    """Share of the pixels that have a value in the science frame but none in the difference."""
    matched_fwhm: float = float("nan")
    """Of the PSF that both images were brought to, before decorrelation, in the middle of the field."""
    residual_sky: float = float("nan")
    """Of the difference on blank sky, rms over the cells of the grid, in sigmas of a pixel."""
    star_residual: float = float("nan")
    """Rms share of its light that the median kernel candidate, used or rejected, leaves within a FWHM."""
    stars_left: float = float("nan")
    """Share of the kernel candidates that the difference shows: reduced chi2 within a FWHM above 3."""


def usual(variance: np.ndarray) -> float:
    """The median of every 256th pixel's variance, NaN where none of them has a value.

    Of ever more of them in an image of less than 512 px: a cutout is not judged by its source.
    variance : (H, W) float32
    """
    step = min(max(min(variance.shape) // 32, 1), 16)
    some = variance[::step, ::step]
    known = some[~np.isnan(some)]
    return float(np.median(known)) if len(known) else float("nan")


@dataclass(frozen=True)
class Difference:
    """Science minus PSF-matched template, in the science frame's pixel grid and units.

    image : (H, W) float32, NaN where mask has NO_DATA; noise decorrelated when `decorrelated`
    variance : (H, W) float32, NaN where NO_DATA
    mask : (H, W) uint16
    score : (H, W) float32, matched-filter signal to noise; 0 where NO_DATA
    kernel : (9, K, K) float32, matching kernel at 3 x 3 field positions, rows of y outer, centres of thirds
    psf : (9, P, P) float32, PSF of `image` at the same places, cut from one of unit sum; its middle is where the
        source lies in the science image
    science_psf, template_psf, matched_psf : (9, P, P) float32, the same for science, template and `matched`
    matched : (H, W) float32, the template as it was subtracted, in the science image's unit
    seconds : stage name -> wall seconds
    cells, stars : Table of model.qa.CELL, the quality on a grid; of KERNEL_STAR, what the kernel was fitted to
    """

    science: Exposure
    template: Exposure
    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    kernel: np.ndarray
    psf: np.ndarray
    science_psf: np.ndarray
    template_psf: np.ndarray
    matched_psf: np.ndarray
    decorrelated: bool
    quality: Quality
    fingerprint: str
    """Hex, 32 characters: provenance up to and including this step (model.provenance)."""
    steps: tuple[dict[str, Any], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cells: Table = field(default_factory=lambda: Table.empty(CELL))
    stars: Table = field(default_factory=lambda: Table.empty(KERNEL_STAR))

    @cached_property
    def usual_variance(self) -> float:
        """`usual` of the variance."""
        return usual(self.variance)

    def alone(self) -> "Difference":
        """The same without the planes of what it was made of: science, template and `matched`.

        Their memory is free then, and what the disk's cache takes up as a file is written is quickest taken there.
        """
        science, template = self.science.without_planes(), self.template.without_planes()
        return dataclasses.replace(self, science=science, template=template, matched=science.image)

"""DetectionBatch: what the differencer hands to the associator for one frame."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gpudiff.model.frame import Observation
from gpudiff.model.sky import Sky
from gpudiff.model.tables import FORCED_SOURCE, Table


@dataclass(frozen=True)
class OwnPlanes:
    """What science and matched template cutouts have beside their pixels, in this order.

    variance : (N, 2, S, S) float32, NaN beyond the image; mask : (N, 2, S, S) uint16, bits of model.mask
    psf : (2, P, P) float32, at the centre of the frame, unit sum
    """

    variance: np.ndarray
    mask: np.ndarray
    psf: np.ndarray


@dataclass(frozen=True)
class DetectionBatch:
    """All DIASources of one frame, perhaps none: no detection is data too.

    sources : Table of model.tables.DIASOURCE
    cutouts : (N, 3, S, S) float32: difference, science, matched template round each source, in the science
        image's unit, NaN beyond the image
    variance : (N, S, S) float32, of the difference, NaN beyond the image
    mask : (N, S, S) uint16, bits of model.mask, of the difference: what is wrong in science or template is set
        here; NO_DATA beyond the image
    psf : (P, P) float32, PSF of the difference at the centre of the frame, unit sum
    own : the planes of science and template cutouts, None where they are not wanted
    wcs : FITS WCS keywords of the science frame
    fingerprint, steps : provenance up to detection (model.provenance)
    quality : model.frame.Quality as a dict
    received_tai, sent_tai : MJD TAI, when the frame had arrived and when this batch left
    forced : Table of model.tables.FORCED_SOURCE, known objects without a detection; empty where not asked for
    """

    observation: Observation
    sources: Table
    cutouts: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    psf: np.ndarray
    wcs: dict[str, Any]
    fingerprint: str
    steps: tuple[dict[str, Any], ...]
    quality: dict[str, Any] = field(default_factory=dict)
    unit: str = "adu"
    zero_point: float | None = None
    received_tai: float = float("nan")
    sent_tai: float = float("nan")
    forced: Table = field(default_factory=lambda: Table.empty(FORCED_SOURCE))
    own: OwnPlanes | None = None

    @cached_property
    def jacobian(self) -> np.ndarray:
        """(N, 2, 2) d(ra cos dec, dec) / d(x, y) at each source, degrees a pixel; NaN without a WCS.

        Raises BadWcs.
        """
        return Sky(self.wcs).jacobian(self.sources["x"], self.sources["y"])

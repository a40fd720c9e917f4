"""Tables of DIASources and DIAObjects: named, typed columns under the schema names that Rubin publishes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Column:
    """One column: its name, NumPy dtype, unit ('' for none) and meaning."""

    name: str
    dtype: str
    unit: str
    description: str

    @property
    def nothing(self) -> Any:
        """What stands where nobody knows a value: '' for text, NaN, or 0 for what has no NaN."""
        return {"U": "", "f": float("nan")}.get(self.dtype[0], 0)


class Table:
    """Equal-length NumPy columns in schema order.  A value: its methods return new tables."""

    def __init__(self, schema: tuple[Column, ...], columns: Mapping[str, Any]):
        """Raises ValueError on a missing, unknown or unequal column."""
        try:
            made = {c.name: np.asarray(columns[c.name], dtype=c.dtype) for c in schema}
        except KeyError:
            made = {}
        if len(made) != len(columns):
            names = {c.name for c in schema}
            missing, unknown = sorted(names - set(columns)), sorted(set(columns) - names)
            raise ValueError(f"expected the schema's columns; missing {missing}, unknown {unknown}")
        self.schema, self.columns = schema, made
        lengths = {len(column) for column in made.values()}
        if len(lengths) > 1:
            raise ValueError(f"expected columns of one length, got {sorted(lengths)}")

    @classmethod
    def _of(cls, schema: tuple[Column, ...], columns: dict[str, np.ndarray]) -> "Table":
        """Columns that are known to be the schema's."""
        table = cls.__new__(cls)
        table.schema, table.columns = schema, columns
        return table

    @classmethod
    def empty(cls, schema: tuple[Column, ...]) -> "Table":
        """No rows."""
        return cls(schema, {c.name: np.empty(0, c.dtype) for c in schema})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def take(self, rows: Any) -> "Table":
        """The rows picked by an index array, a slice or a boolean mask."""
        return Table._of(self.schema, {name: column[rows] for name, column in self.columns.items()})

    def replace(self, **columns: Any) -> "Table":
        """The same rows with some columns changed."""
        return Table(self.schema, {**self.columns, **columns})

    def rows(self) -> Iterable[dict[str, Any]]:
        """Each row as a dict of Python values."""
        lists = [column.tolist() for column in self.columns.values()]
        for values in zip(*lists, strict=True):
            yield dict(zip(self.columns, values, strict=True))


def concatenate(tables: list[Table]) -> Table:
    """Rows of all the tables, which share a schema; at least one table."""
    first = tables[0]
    if len(tables) == 1:
        return first
    return Table._of(first.schema, {n: np.concatenate([t[n] for t in tables]) for n in first.columns})


# ---------------------------------------------------------------- DIASource
FLAG_DESCRIPTIONS: dict[str, str] = {
    "EDGE": "closer to the edge of the image than the PSF reaches, or a trail that goes on to it",
    "MASKED": "15 % of its light on unusable pixels or one beside it, unseen apart; or a saturated star's wings",
    "SATURATED": "a saturated pixel of science or template within reach of the PSF",
    "COSMIC_RAY": "sharper than the PSF: a cosmic ray or a hot pixel",
    "DIPOLE": "a positive and a negative lobe: a residual of a star that did not match, or moved",
    "BRIGHT_STAR": "beside a star so bright that the kernel's own error explains it, or one of three round one",
    "NOT_POINT_LIKE": "neither the PSF nor a trail fits, or on a patch of light (ghost, halo) or restless score",
    "CENTROID": "the position fit did not converge; the position is the peak pixel's",
    "POOR_SUBTRACTION": "the subtraction is poor, on the whole or in this cell of the quality grid",
    "HIGH_VARIANCE": "the variance here is far above the sky's",
    "STREAK": "on a satellite streak, or one of a row of glints at even distances",
    "ONLY_IN_SCORE": "the PSF flux fitted to the difference is below threshold: the score alone exceeds it",
    "SPIKE": "on a ray of light that points at a bright star: a diffraction spike",
}
FLAGS = {name: number for number, name in enumerate(FLAG_DESCRIPTIONS)}
"""Name -> bit, in that order: files and alerts have them, so a new flag is the last."""
DO_NOT_ALERT_ALONE = tuple(name for name in FLAGS if name not in ("CENTROID", "HIGH_VARIANCE"))


def flag(*names: str) -> np.int64:
    """The bits of the named source flags, or-ed."""
    value = 0
    for name in names:
        value |= 1 << FLAGS[name]
    return np.int64(value)


def flag_names(value: int) -> list[str]:
    """The names of the bits that are set."""
    return [name for name, number in FLAGS.items() if int(value) >> number & 1]


_C = Column
DIASOURCE: tuple[Column, ...] = (
    _C("diaSourceId", "i8", "", "visit << 24 | detector << 16 | rank in (y, x)"),
    _C("visit", "i8", "", "visit number"),
    _C("snap", "i2", "", "snap of the visit"),
    _C("detector", "i2", "", "detector number"),
    _C("midpointMjdTai", "f8", "d", "middle of the exposure, MJD TAI; NaN when unknown"),
    _C("x", "f8", "pixel", "position, first pixel's centre is 0"),
    _C("y", "f8", "pixel", "position, first pixel's centre is 0"),
    _C("xErr", "f4", "pixel", "1 sigma"),
    _C("yErr", "f4", "pixel", "1 sigma"),
    _C("x_y_Cov", "f4", "pixel2", "covariance of x and y"),
    _C("ra", "f8", "deg", "right ascension, ICRS; NaN without a WCS"),
    _C("dec", "f8", "deg", "declination, ICRS; NaN without a WCS"),
    _C("raErr", "f4", "deg", "1 sigma of ra * cos(dec)"),
    _C("decErr", "f4", "deg", "1 sigma"),
    _C("ra_dec_Cov", "f4", "deg2", "covariance of ra * cos(dec) and dec"),
    _C("psfFlux", "f8", "image unit", "flux of the PSF fitted to the difference; negative: fading"),
    _C("psfFluxErr", "f4", "image unit", "1 sigma, the source's own photons included"),
    _C("psfChi2", "f4", "", "chi2 of the PSF fit"),
    _C("psfNdata", "i4", "", "pixels in the PSF fit"),
    _C("snr", "f4", "", "matched-filter signal to noise at the peak, absolute"),
    _C("isNegative", "?", "", "fainter than in the template"),
    _C("isDipole", "?", "", "a dipole fits better than a point source"),
    _C("dipoleFitAttempted", "?", "", "a lobe of the other sign lies beside it: a dipole was fitted"),
    _C(
        "dipoleMeanFlux", "f4", "image unit", "mean absolute flux of the two lobes; NaN where no dipole was fitted"
    ),
    _C("dipoleMeanFluxErr", "f4", "image unit", "1 sigma"),
    _C("dipoleFluxDiff", "f4", "image unit", "absolute flux of the positive less that of the negative lobe"),
    _C("dipoleFluxDiffErr", "f4", "image unit", "1 sigma"),
    _C("dipoleLength", "f4", "pixel", "between the lobes"),
    _C("dipoleAngle", "f4", "deg", "from +x to +y, from the negative to the positive lobe, (-180, 180]"),
    _C("dipoleChi2", "f4", "", "chi2 of the dipole fit"),
    _C("dipoleNdata", "i4", "", "pixels in the dipole fit; 0 where no dipole was fitted"),
    _C("trailLength", "f4", "pixel", "length of the trail, 0 for a point source"),
    _C("trailAngle", "f4", "deg", "angle of the trail from +x to +y"),
    _C("apFlux", "f8", "image unit", "flux in a circle of one FWHM radius, on the difference"),
    _C("apFluxErr", "f4", "image unit", "1 sigma"),
    _C("scienceFlux", "f8", "image unit", "forced PSF flux in the science image"),
    _C("scienceFluxErr", "f4", "image unit", "1 sigma"),
    _C("templateFlux", "f8", "image unit", "forced PSF flux in the matched template"),
    _C("templateFluxErr", "f4", "image unit", "1 sigma"),
    _C("ixx", "f4", "pixel2", "second moment along x"),
    _C("iyy", "f4", "pixel2", "second moment along y"),
    _C("ixy", "f4", "pixel2", "second moment across"),
    _C("ixxPSF", "f4", "pixel2", "second moment of the PSF along x"),
    _C("iyyPSF", "f4", "pixel2", "second moment of the PSF along y"),
    _C("ixyPSF", "f4", "pixel2", "second moment of the PSF across"),
    _C("flags", "i8", "", "bits, named in the table's metadata"),
    _C("flagged", "?", "", "do not alert on this alone"),
    _C("reliability", "f4", "", "probability of being astrophysical, 0 to 1; NaN without a model"),
)

BANDS = "ugrizy"
"""Those for which the published schema has columns of brightness."""

_FLUX = (
    ("psfFluxMean", "f4", "nJy", "mean PSF flux, weighted by inverse variance; NaN when never seen in the band"),
    ("psfFluxMeanErr", "f4", "nJy", "1 sigma of psfFluxMean"),
    ("psfFluxSigma", "f4", "nJy", "standard deviation of the fluxes; NaN below two"),
    ("psfFluxChi2", "f4", "", "chi2 of the fluxes about psfFluxMean"),
    ("psfFluxNdata", "i4", "", "detections in the band"),
    ("psfFluxMin", "f4", "nJy", "faintest"),
    ("psfFluxMax", "f4", "nJy", "brightest"),
    ("psfFluxErrMean", "f4", "nJy", "mean of the fluxes' errors"),
    ("psfFluxPlainMean", "f4", "nJy", "mean without weights"),
)
DIAOBJECT: tuple[Column, ...] = (
    _C("diaObjectId", "i8", "", "the diaSourceId of the first detection"),
    _C("ra", "f8", "deg", "weighted mean right ascension, ICRS"),
    _C("dec", "f8", "deg", "weighted mean declination, ICRS"),
    _C("raErr", "f4", "deg", "1 sigma of ra * cos(dec)"),
    _C("decErr", "f4", "deg", "1 sigma"),
    _C("ra_dec_Cov", "f4", "deg2", "covariance of ra * cos(dec) and dec"),
    _C("nDiaSources", "i4", "", "detections so far"),
    _C("firstDiaSourceMjdTai", "f8", "d", "first seen"),
    _C("lastDiaSourceMjdTai", "f8", "d", "last seen"),
    _C("validityStartMjdTai", "f8", "d", "when this version of the object was made, MJD TAI"),
    _C("positionMjdTai", "f8", "d", "weighted mean time of the positions; NaN when no time is known"),
    _C("timeMoment", "f4", "yr2 / arcsec2", "sum of weight x (time - positionMjdTai)^2: the leverage on a motion"),
    _C("pmRa", "f4", "mas / yr", "proper motion in ra * cos(dec), weighted linear fit; NaN below two times"),
    _C("pmRaErr", "f4", "mas / yr", "1 sigma"),
    _C("pmDec", "f4", "mas / yr", "proper motion in dec"),
    _C("pmDecErr", "f4", "mas / yr", "1 sigma"),
    *(_C(f"{band}_{name}", *rest) for band in BANDS for name, *rest in _FLUX),
)
"""Fluxes are nJy where the frames are calibrated, else in the image's unit."""

PREDICTED: tuple[Column, ...] = (
    _C("ssObjectId", "i8", "", "Solar System object"),
    _C("ra", "f8", "deg", "predicted right ascension at the middle of the exposure, ICRS, astrometric"),
    _C("dec", "f8", "deg", "predicted declination"),
    _C("error", "f4", "arcsec", "1 sigma of the prediction, per axis"),
    _C("eastTrail", "f4", "arcsec", "motion during the exposure, to the east"),
    _C("northTrail", "f4", "arcsec", "motion during the exposure, to the north"),
    _C("magnitude", "f4", "mag", "predicted brightness, V; NaN when unknown"),
)
"""Where Solar System objects are, seen from here, at one moment."""

LOOSE: tuple[Column, ...] = (
    _C("diaSourceId", "i8", "", "a detection of tonight that belongs to nothing known before"),
    _C("midpointMjdTai", "f8", "d", "when"),
    _C("ra", "f8", "deg", "where, ICRS"),
    _C("dec", "f8", "deg", "where, ICRS"),
    _C("raErr", "f4", "deg", "1 sigma of ra * cos(dec)"),
    _C("decErr", "f4", "deg", "1 sigma"),
    _C("ra_dec_Cov", "f4", "deg2", "covariance of ra * cos(dec) and dec"),
    _C("trackletId", "i8", "", "tracklet it is part of already, 0 for none"),
)
"""What tracklets are made of."""

FORCED_SOURCE: tuple[Column, ...] = (
    _C("diaObjectId", "i8", "", "the known object at this position"),
    _C("visit", "i8", "", "visit number"),
    _C("detector", "i2", "", "detector number"),
    _C("band", "U68", "", "filter, '' when unknown"),
    _C("midpointMjdTai", "f8", "d", "middle of the exposure, MJD TAI; NaN when unknown"),
    _C("ra", "f8", "deg", "right ascension of the object, ICRS"),
    _C("dec", "f8", "deg", "declination of the object, ICRS"),
    _C("psfFlux", "f8", "image unit", "flux of the PSF at this position on the difference; NaN: no usable pixel"),
    _C("psfFluxErr", "f4", "image unit", "1 sigma"),
    _C("scienceFlux", "f8", "image unit", "the same in the science image"),
    _C("scienceFluxErr", "f4", "image unit", "1 sigma"),
    _C("pixelFlags", "i4", "", "mask planes (bits of model.mask) within a pixel and a half of the position"),
)
"""PSF fluxes at the positions of known objects that were not detected."""
FORCED_FLUXES = "psfFlux", "psfFluxErr", "scienceFlux", "scienceFluxErr"


def dia_source_ids(visit: int, detector: int, count: int) -> np.ndarray:
    """(count,) int64 ids of a frame's DIASources, ordered by (y, x): visit << 24 | detector << 16 | n.

    Raises ValueError when a number does not fit: visit < 2**39, detector < 256, count <= 65536.
    """
    if not (0 <= visit < 1 << 39 and 0 <= detector < 256 and count <= 1 << 16):
        raise ValueError(
            f"expected visit < 2**39, detector < 256, at most 65536 sources; got {visit}, {detector}, {count}"
        )
    return (np.int64(visit) << 24 | np.int64(detector) << 16) + np.arange(count, dtype=np.int64)

"""Small detection batches made by hand, for the tests of association, ledger, alerts and archive."""

from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.model.batch import DetectionBatch
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import FrameId, Observation
from gpudiff.model.mask import bit
from gpudiff.model.provenance import step
from gpudiff.model.tables import DIASOURCE, Table, dia_source_ids
from gpudiff.services.associator import Associator

SIZE = 51
WCS = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 512.5,
    "CRPIX2": 500.0,
    "CRVAL1": 150.0,
    "CRVAL2": -30.0,
    "CD1_1": -5.5e-5,
    "CD1_2": 1e-7,
    "CD2_1": 1e-7,
    "CD2_2": 5.5e-5,
}


def a_sources(count: int, visit: int = 7, detector: int = 4, **columns: Any) -> Table:
    """`count` DIASources 31 arcsec apart at declination -30; `columns` win over the defaults."""
    values = {c.name: np.zeros(count, c.dtype) for c in DIASOURCE}
    n = np.arange(count)
    values.update(
        diaSourceId=dia_source_ids(visit, detector, count),
        visit=np.full(count, visit),
        detector=np.full(count, detector),
        midpointMjdTai=np.full(count, 61000.0 + visit),
        x=100.25 + 10.0 * n,
        y=200.5 + 5.0 * n,
        ra=150.0 + 0.01 * n,
        dec=np.full(count, -30.0),
        raErr=np.full(count, 2e-5),
        decErr=np.full(count, 2e-5),
        psfFlux=1000.0 + n,
        psfFluxErr=np.full(count, 50.0),
        snr=np.full(count, 20.0),
        reliability=np.full(count, np.nan),
    )
    return Table(DIASOURCE, {**values, **{name: np.broadcast_to(v, count) for name, v in columns.items()}})


def a_batch(
    count: int,
    visit: int = 7,
    detector: int = 4,
    fingerprint: str = "ab" * 16,
    zero_point: float | None = None,
    **columns: Any,
) -> DetectionBatch:
    """A batch of `a_sources` with cutouts of noise and one NaN in each."""
    cutouts = np.random.default_rng(visit).normal(size=(count, 3, SIZE, SIZE)).astype("<f4")
    cutouts[:, :, 0, 0] = np.nan
    start = 61000.0 + visit
    return DetectionBatch(
        observation=Observation(
            FrameId(visit, 0, detector),
            band="r",
            mjd_start_tai=start - 1e-4,
            mjd_end_tai=start + 1e-4,
            readout_end_tai=start + 2e-4,
            exposure_s=17.28,
        ),
        sources=a_sources(count, visit, detector, **columns),
        cutouts=cutouts,
        variance=np.square(cutouts[:, 0]) + np.float32(1),
        mask=np.isnan(cutouts[:, 0]) * bit("NO_DATA"),
        psf=np.full((5, 5), 0.04, "<f4"),
        wcs=dict(WCS),
        fingerprint=fingerprint,
        steps=(step("calibrate", "1", "c" * 32, ["d" * 32]),),
        quality={"convolved": "TEMPLATE", "chi2": 1.0},
        zero_point=zero_point,
        received_tai=start + 3e-4,
        sent_tai=start + 4e-4,
    )


def taken(directory: Path, *batches: DetectionBatch, **ledger: Any) -> Path:
    """The archive of an associator that took these, one by one, and ended."""
    associator = Associator(directory, override(Configuration(), "ledger", **ledger))
    for batch in batches:
        associator.take(batch)
    associator.close()
    return directory / "alerts"

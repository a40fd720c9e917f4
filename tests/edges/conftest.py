"""A small subtraction made by hand, for what is written and drawn of one; empty ledgers in both databases."""

import numpy as np
import pytest
from headers import tangent
from postgres import Server

from gpudiff.edges.ledger import Ledger
from gpudiff.model.frame import Difference, Exposure, Frame, FrameId, Observation, Quality
from gpudiff.model.mask import bit
from gpudiff.model.plane import constant
from gpudiff.model.qa import CELL, KERNEL_STAR
from gpudiff.model.tables import DIASOURCE, Table, dia_source_ids, flag

SKY = tangent(150.0, 2.2, 80.5, 60.5)
SHAPE = (120, 160)
CHANGES = ((100.0, 40.0, 900.0), (30.0, 80.0, -700.0), (130.0, 90.0, 500.0))
"""x, y, flux of the three sources; the last one is flagged."""


def star(x: float, y: float, flux: float, sigma: float) -> np.ndarray:
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return flux / (2 * np.pi * sigma**2) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2))


def cells() -> Table:
    """Four cells, the last without a star."""
    n = np.arange(4)
    columns = {c.name: np.ones(4, c.dtype) for c in CELL}
    columns |= {"row": n // 2, "column": n % 2, "x0": 80 * (n % 2), "y0": 60 * (n // 2)}
    columns |= {"x1": 80 * (n % 2) + 80, "y1": 60 * (n // 2) + 60, "scoreStd": 1 + 0.02 * n}
    return Table(CELL, columns | {"chi2": np.where(n == 3, np.nan, 1.1)})


def kernel_stars() -> Table:
    columns = {c.name: np.full(5, 3, c.dtype) for c in KERNEL_STAR}
    return Table(KERNEL_STAR, columns | {"x": 20 * np.arange(5) + 20, "y": 20 * np.arange(5) + 10})


def exposure(name: str, image: np.ndarray) -> Exposure:
    frame = Frame(
        name, Observation(FrameId(7, 0, 3), "r"), image.astype("f4") + 100, gain=1.5, wcs=SKY, digest="00"
    )
    return Exposure(
        frame=frame,
        image=image.astype("f4"),
        mask=np.zeros(SHAPE, np.int32),
        sky=constant(100.0, SHAPE),
        sky_variance=constant(9.0, SHAPE),
        gain=1.5,
        variance_known=False,
        notes=(f"{name}: no gain: variance measured from the sky",),
    )


@pytest.fixture
def made_sources() -> Table:
    x, y, flux = (np.array(column) for column in zip(*sorted(CHANGES, key=lambda c: c[1]), strict=True))
    columns = {c.name: np.zeros(3, c.dtype) for c in DIASOURCE}
    columns |= {
        "diaSourceId": dia_source_ids(7, 3, 3),
        "x": x,
        "y": y,
        "ra": 150 + x / 18000,
        "midpointMjdTai": np.full(3, np.nan),
        "psfFlux": flux,
        "psfFluxErr": np.full(3, 1 / 3, np.float32),
        "snr": np.abs(flux) / 30,
        "isNegative": flux < 0,
        "flags": np.where(flux == 500, flag("DIPOLE", "EDGE"), 0),
        "flagged": flux == 500,
    }
    return Table(DIASOURCE, columns)


@pytest.fixture
def made_difference() -> Difference:
    rng = np.random.default_rng(5)
    stars = sum(
        star(x, y, f, 2.0)
        for x, y, f in zip(
            rng.uniform(0, 160, 40), rng.uniform(0, 120, 40), rng.exponential(4000, 40), strict=True
        )
    )
    noise, changed = rng.normal(0, 3, SHAPE), sum(star(x, y, f, 2.0) for x, y, f in CHANGES)
    image = (noise + changed).astype("f4")
    mask = np.zeros(SHAPE, np.int32)
    mask[:, -5:] = bit("NO_DATA")
    mask[20:26, 20:26] = bit("SAT_TEMPLATE")
    empty = (mask & bit("NO_DATA")) != 0
    variance = np.where(empty, np.nan, 9).astype("f4")
    image[empty] = np.nan
    yy, xx = np.mgrid[-6:7, -6:7]
    kernel = np.array([np.exp(-(xx**2 + yy**2) / (2 * s**2)) for s in np.linspace(1, 1.6, 9)], "f4")
    return Difference(
        science=exposure("science.fits", stars + changed + noise),
        template=exposure("template.fits", stars),
        image=image,
        variance=variance,
        mask=mask,
        score=np.where(empty, 0, rng.normal(0, 1, SHAPE) + changed).astype("f4"),
        matched=stars.astype("f4"),
        kernel=kernel / kernel.sum((1, 2), keepdims=True),
        psf=kernel / kernel.sum((1, 2), keepdims=True),
        science_psf=kernel / kernel.sum((1, 2), keepdims=True),
        matched_psf=kernel / kernel.sum((1, 2), keepdims=True),
        template_psf=kernel / kernel.sum((1, 2), keepdims=True),
        decorrelated=True,
        quality=Quality(
            convolved="TEMPLATE",
            algorithm="alard-lupton",
            science_fwhm=4.7,
            template_fwhm=3.6,
            candidates=40,
            candidates_used=33,
            basis_functions=13,
            spatial_order=1,
            chi2=1.04,
            chi2_held_back=float("nan"),
            kernel_sum=1.02,
            kernel_sum_variation=0.01,
            noise_ratio=0.995,
            score_std=1.01,
            score_scale=1.05,
            lost_fraction=0.002,
        ),
        fingerprint="0123456789abcdef0123456789abcdef",
        seconds={"calibrate": 0.1, "match": 0.3, "subtract": 0.2, "detect": 0.05},
        notes=("kernel order lowered to 1: 40 stars",),
        cells=cells(),
        stars=kernel_stars(),
    )


@pytest.fixture(scope="session")
def server():
    with Server() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    """A place for a ledger that is not there yet."""
    if request.param == "sqlite":
        return tmp_path / "ledger.sqlite"
    return request.getfixturevalue("server").new_database()


@pytest.fixture
def ledger(where):
    made = Ledger(where)
    yield made
    made.close()

"""What happens in a simulated night: its visits, their weather, and the sky that each detector sees.

Every draw has a generator of its own, seeded by the night's seed, what is drawn, and the numbers that name
it: so the same options give the same night however the work is shared out.
"""

import math
from typing import Any

import numpy as np

from gpudiff.arrays.render import moffat_mixture, noise_area
from gpudiff.model.scene import Catalogue, Detector, Night, Visit, Weather

WEATHER, EPOCH, SKY, NOISE, TEMPLATE_NOISE, BAD_COLUMNS, ARTEFACTS = range(7)
BORDER = 60
"""px beyond the sensor's edge in which stars are drawn too: their light reaches in."""
MARGIN = 20
"""px from the edge within which nothing that changes is put."""


def generator(night: Night, purpose: int, *numbers: int) -> np.random.Generator:
    """The generator of one purpose, independent of all others."""
    return np.random.default_rng([night.seed, purpose, *numbers])


def visits(night: Night) -> list[Visit]:
    """The night's visits in order; fields take turns, each pointed at where it was before."""
    centres = field_centres(night)
    return [
        Visit(
            number=night.date * 1000 + n + 1,
            field=n % night.fields,
            ra=centres[n % night.fields][0],
            dec=centres[n % night.fields][1],
            mjd_start=night.first_mjd() + n * night.interval / 86400,
            phase=n / max(1, night.visits - 1),
            weather=weather(night, night.seeing, generator(night, WEATHER, n)),
        )
        for n in range(night.visits)
    ]


def epochs(night: Night, field: int) -> list[Weather]:
    """The weather of each earlier exposure in a field's templates; registration is perfect in them."""
    return [
        weather(night, night.template_seeing, generator(night, EPOCH, field, n), registration=0.0)
        for n in range(night.epochs)
    ]


def field_centres(night: Night) -> list[tuple[float, float]]:
    """(ra, dec) of each field: the first as asked, the others 3.5 degrees apart along its parallel."""
    step = 3.5 / max(math.cos(math.radians(night.dec)), 0.05)
    return [((night.ra + n * step) % 360.0, night.dec) for n in range(night.fields)]


def weather(night: Night, seeing: float, rng: np.random.Generator, registration: float | None = None) -> Weather:
    """One exposure's weather, drawn round the night's medians."""
    shift = night.registration if registration is None else registration
    variation = night.seeing_variation
    terms = rng.normal(0, 0.5, 2).clip(-1, 1)
    return Weather(
        fwhm=seeing / night.pixel_scale * math.exp(rng.normal(0, night.seeing_spread)),
        fwhm_terms=variation * np.array([*terms, rng.uniform(0.3, 0.7)]),
        ellipticity=rng.normal(0, 1, (2, 4)) * np.array([0.02, 0.015, 0.015, 0.01]),
        transparency=rng.uniform(0.85, 1.02),
        transparency_terms=0.005 * rng.uniform(-1, 1, 3),
        sky=night.sky * math.exp(rng.normal(0, 0.1)),
        sky_terms=night.sky_gradient * rng.uniform(-1, 1, 3) * np.array([1, 1, 0.5]),
        shift=shift * rng.uniform(-1, 1, (2, 3)) * np.array([0.6, 0.5, 0.5]),
    )


def catalogue(night: Night, field: int, detector: Detector) -> Catalogue:
    """The sky of one field on one detector: stars, galaxies and what changes."""
    rng = generator(night, SKY, field, detector.number)
    stars = _stars(night, detector, rng)
    galaxies = _galaxies(night, detector, rng)
    return Catalogue(stars, galaxies, _changes(night, field, detector, stars, galaxies, rng))


def power_law(rng: np.random.Generator, count: int, low: float, high: float, slope: float) -> np.ndarray:
    """(count,) fluxes whose number above f falls as f^-slope, between low and high."""
    share = (high / low) ** -slope
    return low * (share + (1 - share) * rng.uniform(size=count)) ** (-1 / slope)


def _stars(night: Night, detector: Detector, rng: np.random.Generator) -> dict[str, np.ndarray]:
    count = rng.poisson(night.stars * detector.megapixels(BORDER))
    faint = sky_limit(night)
    return {
        "x": rng.uniform(-BORDER, detector.width + BORDER, count),
        "y": rng.uniform(-BORDER, detector.height + BORDER, count),
        "flux": power_law(rng, count, faint, 6e4 * faint, 0.65),
    }


def _galaxies(night: Night, detector: Detector, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Counts rise as f^-0.9; brighter ones are larger; a quarter are ellipticals (Sersic index 4)."""
    count = rng.poisson(night.galaxies * detector.megapixels(BORDER))
    faint = 5 * sky_limit(night)
    flux = power_law(rng, count, faint, 800 * faint, 0.9)
    arcsec = 0.35 * (flux / faint) ** 0.27 * np.exp(rng.normal(0, 0.25, count))
    return {
        "x": rng.uniform(-BORDER, detector.width + BORDER, count),
        "y": rng.uniform(-BORDER, detector.height + BORDER, count),
        "flux": flux,
        "radius": arcsec / night.pixel_scale,
        "axis_ratio": rng.uniform(0.3, 1, count),
        "angle": rng.uniform(0, np.pi, count),
        "index": np.where(rng.uniform(size=count) < 0.25, 4, 1),
    }


def sky_limit(night: Night) -> float:
    """Electrons of a point source at S/N 1 in median conditions with a read noise of 6 electrons."""
    area = noise_area(moffat_mixture(night.moffat_beta), night.seeing / night.pixel_scale)
    return math.sqrt(area * (night.sky + 36))


def _changes(
    night: Night,
    field: int,
    detector: Detector,
    stars: dict[str, np.ndarray],
    galaxies: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    limit = sky_limit(night)
    variables = _variables(night, detector, stars, limit, rng)
    taken = [(v["x"], v["y"]) for v in variables]
    rows = []
    for kind, count in (
        ("transient", night.transients),
        ("vanished", night.vanished),
        ("moving", night.moving),
    ):
        for n in range(count):
            place = _place(kind, n, galaxies, stars)
            x, y = _position(place, detector, stars, galaxies, taken, limit, rng)
            taken.append((x, y))
            signal = math.exp(rng.uniform(math.log(night.snr_low), math.log(night.snr_high))) * limit
            row = {"kind": kind, "place": place, "x": x, "y": y, "star": -1}
            row["flux"] = -signal if kind == "vanished" else signal
            row["slope"] = rng.normal(0, 0.15) if kind == "transient" else 0.0
            row["rate_x"], row["rate_y"] = _rate(night, rng) if kind == "moving" else (0.0, 0.0)
            rows.append(row)
    rows += variables
    first = ((field + 1) * 256 + detector.number) * 100000 + 1
    rows = [{"objectId": first + n, **row} for n, row in enumerate(rows)]
    return {name: np.array([row[name] for row in rows], dtype) for name, dtype in CHANGE_COLUMNS.items()}


CHANGE_COLUMNS = {
    "objectId": "i8",
    "kind": "U10",
    "place": "U9",
    "x": "f8",
    "y": "f8",
    "flux": "f8",
    "slope": "f8",
    "rate_x": "f8",
    "rate_y": "f8",
    "star": "i8",
}


def _variables(
    night: Night, detector: Detector, stars: dict[str, np.ndarray], limit: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Some of the stars that neither saturate nor vanish in the noise, changing by 8 to 50 %."""
    x, y, flux = stars["x"], stars["y"], stars["flux"]
    inside = (x > MARGIN) & (x < detector.width - MARGIN) & (y > MARGIN) & (y < detector.height - MARGIN)
    usable = np.flatnonzero(inside & (flux > 60 * limit) & (flux < 3000 * limit))
    chosen = rng.choice(usable, min(night.variables, len(usable)), replace=False)
    amplitude = rng.choice([-1, 1], len(chosen)) * rng.uniform(0.08, 0.5, len(chosen))
    return [
        {
            "kind": "variable",
            "place": "",
            "x": x[star],
            "y": y[star],
            "flux": a * flux[star],
            "slope": rng.normal(0, 0.15),
            "rate_x": 0.0,
            "rate_y": 0.0,
            "star": star,
        }
        for star, a in zip(chosen, amplitude, strict=True)
    ]


def _place(kind: str, n: int, galaxies: dict[str, np.ndarray], stars: dict[str, np.ndarray]) -> str:
    """Of ten transients four lie in the field, four in a host, two beside a star; all else in the field."""
    place = ("field", "host", "field", "near-star", "host")[n % 5] if kind == "transient" else "field"
    if (place == "host" and not len(galaxies["x"])) or (place == "near-star" and not len(stars["x"])):
        return "field"
    return place


def _position(
    place: str,
    detector: Detector,
    stars: dict[str, np.ndarray],
    galaxies: dict[str, np.ndarray],
    taken: list[tuple[float, float]],
    limit: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """A position well inside, 20 px from other changes and 60 from a saturated star: the best of 60 tries."""
    bright = stars["flux"] > 8000 * limit
    best, distance = (detector.width / 2, detector.height / 2), -1.0
    for _ in range(60):
        x, y = _candidate(place, detector, stars, galaxies, limit, rng)
        if not (MARGIN < x < detector.width - MARGIN and MARGIN < y < detector.height - MARGIN):
            continue
        near = min((math.hypot(x - a, y - b) / 20 for a, b in taken), default=1.0)
        glare = float(np.hypot(stars["x"] - x, stars["y"] - y)[bright].min(initial=60.0)) / 60
        if min(near, glare) > distance:
            best, distance = (x, y), min(near, glare)
        if distance >= 1:
            break
    return best


def _candidate(
    place: str,
    detector: Detector,
    stars: dict[str, np.ndarray],
    galaxies: dict[str, np.ndarray],
    limit: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    if place == "field":
        return rng.uniform(0, detector.width), rng.uniform(0, detector.height)
    angle = rng.uniform(0, 2 * np.pi)
    if place == "host":
        host = rng.integers(len(galaxies["x"]))
        x, y, away = galaxies["x"][host], galaxies["y"][host], galaxies["radius"][host] * rng.uniform(0, 1.5)
    else:
        order = np.argsort(np.abs(np.log(stars["flux"] / (300 * limit))))
        star = order[rng.integers(max(1, len(order) // 5))]
        x, y, away = stars["x"][star], stars["y"][star], rng.uniform(5, 14)
    return x + away * math.cos(angle), y + away * math.sin(angle)


def _rate(night: Night, rng: np.random.Generator) -> tuple[float, float]:
    """px / s: mostly main belt (15 to 50 arcsec an hour), one in five near Earth (100 to 500)."""
    low, high = (100, 500) if rng.uniform() < 0.2 else (15, 50)
    rate = rng.uniform(low, high) / 3600 / night.pixel_scale
    angle = rng.uniform(0, 2 * np.pi)
    return rate * math.cos(angle), rate * math.sin(angle)

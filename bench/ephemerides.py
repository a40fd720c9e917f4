"""A visit's Solar System objects out of a million ephemerides, and how fast ephemerides are built.

The million is made up: directions within some 10 degrees of a great circle, moving by 0.3 degrees a day and more.
What is found is checked against an evaluation of all of them, which is also what it is timed beside.
"""

import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import _common as common
import numpy as np

from gpudiff.edges.sky_file import write_sky_file
from gpudiff.model.sky import within
from gpudiff.science.ephemerides import DEGREE, Night, Site, columns_of, predict
from gpudiff.science.orbits import equatorial, states_of
from gpudiff.services.solar_system import KIND, SolarSystem

NIGHT = Night(61001.2, 14.0)
SITE = Site(-70.749, -30.245, 2663.0)
RADIUS = 1.75


def made_up(count: int) -> dict[str, np.ndarray]:
    """Columns of ephemerides that move on great circles."""
    random = np.random.default_rng(1)
    place = random.normal(size=(count, 3)) * (1, 1, 0.2)
    place /= np.linalg.norm(place, axis=1)[:, None]
    across = np.cross(place, random.normal(size=(count, 3)))
    across /= np.linalg.norm(across, axis=1)[:, None]
    degrees = random.exponential(0.1, count)  # in half a night
    coefficients = np.zeros((count, 3, DEGREE + 1))
    angle = np.radians(degrees)
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    values = np.polynomial.chebyshev.chebvander(nodes, DEGREE) * 2 / (DEGREE + 1)
    values[:, 0] /= 2
    for node, row in zip(nodes, values, strict=True):
        there = np.cos(node * angle)[:, None] * place + np.sin(node * angle)[:, None] * across
        coefficients += there[:, :, None] * row
    return {
        "ssObjectId": np.arange(count) + 1,
        "designation": np.full(count, b"made up", "S24"),
        "ra": np.degrees(np.arctan2(place[:, 1], place[:, 0])) % 360,
        "dec": np.degrees(np.arcsin(place[:, 2])),
        "reach": degrees.astype("f4"),
        "error": np.full(count, 0.3, "f4"),
        "magnitude": np.full(count, np.nan, "f4"),
        "state": np.ones((count, 6)),
        "coefficients": coefficients,
    }


def orbits(count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A main belt with one epoch, 40 days ago."""
    random = np.random.default_rng(2)
    uniform = {"a": (2.1, 3.3), "e": (0, 0.3), "i": (0, 20), "node": (0, 360), "peri": (0, 360), "m": (0, 360)}
    elements = {name: random.uniform(*span, count) for name, span in uniform.items()}
    known = {name: np.full(count, value) for name, value in (("h", 15.0), ("g", 0.15), ("error", 0.0))}
    known |= {"ssObjectId": np.arange(count), "designation": np.full(count, b"x", "S24")}
    return known | {"epoch": np.full(count, 60961.0)}, equatorial(states_of(elements))


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000, help="ephemerides (%(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="visits timed (%(default)s)")
    options = parser.parse_args()
    columns = made_up(options.objects)
    where = np.random.default_rng(3).uniform([0, -5], [360, 5], (options.repeats, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "night.sky"
        facts = {"middle_mjd_tai": NIGHT.middle, "hours": NIGHT.hours, "site": None}
        write_sky_file(path, KIND, columns, facts)
        system = SolarSystem(path)
        found = 0
        for ra, dec in where[:3]:
            everything = predict(columns, NIGHT, NIGHT.middle + 0.2, 30.0)
            inside = within(everything["ra"], everything["dec"], ra, dec, RADIUS)
            visit = system.at(NIGHT.middle + 0.2, 30.0, ra, dec, RADIUS)
            assert set(everything["ssObjectId"][inside].tolist()) <= set(visit["ssObjectId"].tolist())
            found += len(visit)
        visits = common.took_s(lambda place: system.at(NIGHT.middle + 0.2, 30.0, *place, RADIUS), where)
        everything_s = common.median_s(lambda: predict(columns, NIGHT, NIGHT.middle + 0.2, 30.0), 3)
        figures = {"one visit": 1000 * statistics.median(visits), "evaluate all": 1000 * everything_s}
    known, states = orbits(5000)
    building = common.median_s(lambda: columns_of(known, states, NIGHT, SITE), 1)
    figures["build, a million orbits, s"] = building / 5000 * 1e6
    print(
        f"{common.device()}; {options.objects} ephemerides; load {os.getloadavg()[0]:.1f}; {found / 3:.0f} a visit"
    )
    for name, value in figures.items():
        print(f"  {name:<28} {value:9.1f}" + ("" if name.endswith("s") else " ms"))
    common.record(__file__, {"objects": options.objects, "milliseconds": figures}, options)


if __name__ == "__main__":
    main()

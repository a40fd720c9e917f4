"""Wrong associations on simulated nights, and the speed of an association beside its peers.

A night is four visits, half an hour apart, of five fields: the equator at RA 0, both poles, a place in the
ecliptic with many movers, and a crowded one.  5 % of the known objects lie within 2 arcsec of another; in each
visit half of them vary; errors are 0.02 to 0.15 arcsec, correlated; movers are predicted with errors; new
objects come and stay; other detections come once.  Each detection's truth is known.  Wrong is: another object than
the true one, an object for what is new, "new" for what is known, and a static object for a mover or the reverse.

The peer takes the nearest of the same objects and predictions within the gate (a k-d tree, SciPy).
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import _common as common
import numpy as np
from scipy.spatial import cKDTree

from gpudiff.arrays.zone_join import unit_vectors
from gpudiff.model.tables import DIASOURCE, LOOSE, PREDICTED, Table, concatenate
from gpudiff.science.associate import associate
from gpudiff.science.objects import new_objects
from gpudiff.science.tracklets import LinkLimits, link

ARCSEC = 1 / 3600
GATE = 1.0
VISITS, GAP_DAYS = 4, 0.5 / 24
START = 61000.0
NEW_TRUTH, ONCE, MOVER = 1 << 40, 1 << 41, 1 << 42
"""Truth is the object's id; these are added for what is new tonight, seen once, or moves."""
FIELDS = {
    "equator, RA 0": (0.0, 0.0, 6000, 20),
    "north pole": (0.0, 90.0, 6000, 20),
    "south pole": (123.0, -90.0, 6000, 20),
    "ecliptic": (180.0, 0.0, 6000, 600),
    "crowded": (266.0, -29.0, 60000, 20),
}
"""Right ascension, declination, known objects and movers within a degree and a half."""


def places(centre: tuple[float, float], offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) of (N, 2) offsets, degrees in the tangent plane of a centre."""
    ra, dec = np.radians(centre)
    east = np.array([-np.sin(ra), np.cos(ra), 0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    v = unit_vectors(np.array([centre[0]]), np.array([centre[1]])) + np.radians(offsets) @ np.stack([east, north])
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(
        np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]))
    )


class Field:
    """One field of a night; offsets are degrees in its tangent plane."""

    def __init__(self, seed: int, centre: tuple[float, float], known: int, movers: int):
        self.random = np.random.default_rng(seed)
        self.centre = centre
        self.known = self._scattered(known)
        close = self.random.permutation(known)[: known // 20]
        self.known[close] = self.known[close - 1] + self._in_circle(len(close), 2 * ARCSEC)
        self.fresh = self._scattered(known // 20)
        self.movers = self._scattered(movers)
        self.rates = self.random.normal(scale=0.25, size=(movers, 2))  # degrees a day
        self.error = self.random.uniform(0.1, 1.0, movers)
        self.objects = self._objects()

    def _in_circle(self, count: int, radius: float) -> np.ndarray:
        angle, r = self.random.uniform(0, 2 * np.pi, count), radius * np.sqrt(self.random.uniform(0, 1, count))
        return np.stack([r * np.cos(angle), r * np.sin(angle)], -1)

    def _scattered(self, count: int) -> np.ndarray:
        return self._in_circle(count, 1.5)

    def _objects(self) -> Table:
        """The snapshot: positions with errors of 0.01 to 0.08 arcsec."""
        sigma = self.random.uniform(0.01, 0.08, len(self.known))
        off = self.known + self.random.normal(size=self.known.shape) * sigma[:, None] * ARCSEC
        sources = self._sources(off, sigma, np.zeros(len(off)), 0)
        return new_objects(sources, START).replace(
            diaObjectId=np.arange(len(off)) + 1,
            firstDiaSourceMjdTai=np.full(len(off), START - 300),
            nDiaSources=self.random.integers(1, 40, len(off)),
        )

    def _sources(self, off: np.ndarray, sigma: np.ndarray, correlation: np.ndarray, visit: int) -> Table:
        count = len(off)
        ra, dec = places(self.centre, off)
        values = {c.name: np.zeros(count, c.dtype) for c in DIASOURCE}
        values |= {"ra": ra, "dec": dec, "raErr": sigma * ARCSEC, "decErr": sigma * ARCSEC}
        values |= {
            "ra_dec_Cov": correlation * (sigma * ARCSEC) ** 2,
            "diaSourceId": (visit << 24) + np.arange(count),
        }
        return Table(DIASOURCE, values | {"midpointMjdTai": np.full(count, START + visit * GAP_DAYS)})

    def visit(self, visit: int) -> tuple[Table, np.ndarray, Table]:
        """The detections of a visit, the truth of each, and the predicted movers."""
        seen = np.flatnonzero(self.random.random(len(self.known)) < 0.5)
        once = self._scattered(len(self.known) // 20)
        there = self.movers + self.rates * visit * GAP_DAYS
        moving = np.flatnonzero(self.random.random(len(there)) < 0.9)
        true = np.concatenate([self.known[seen], self.fresh, once, there[moving]])
        truth = np.concatenate(
            [
                seen + 1,
                NEW_TRUTH + np.arange(len(self.fresh)),
                ONCE + visit * len(once) + np.arange(len(once)),
                MOVER + moving,
            ]
        )
        count = len(true)
        sigma, turn = (
            np.exp(self.random.uniform(np.log(0.02), np.log(0.15), count)),
            self.random.uniform(-0.7, 0.7, count),
        )
        noise = self.random.normal(size=(count, 2))
        noise[:, 1] = turn * noise[:, 0] + np.sqrt(1 - turn**2) * noise[:, 1]
        systematic = self.random.normal(scale=0.03, size=(count, 2))
        off = true + (noise * sigma[:, None] + systematic) * ARCSEC
        if abs(self.centre[1]) > 89:
            turn = np.zeros(count)  # east turns within the field: say nothing of the correlation
        order = self.random.permutation(count)[: 1 << 16]
        return (
            self._sources(off[order], sigma[order], turn[order], visit + 1),
            truth[order],
            self._predicted(there),
        )

    def _predicted(self, there: np.ndarray) -> Table:
        ra, dec = places(self.centre, there + self.random.normal(size=there.shape) * self.error[:, None] * ARCSEC)
        trail = self.rates * 30 / 86400 / ARCSEC
        values = {"ssObjectId": MOVER + np.arange(len(there)), "ra": ra, "dec": dec, "error": self.error}
        values |= {"eastTrail": trail[:, 0], "northTrail": trail[:, 1], "magnitude": np.full(len(there), np.nan)}
        return Table(PREDICTED, values)


class Ours:
    """gpudiff's association, with what it has learnt tonight."""

    def __init__(self, field: Field):
        self.objects = field.objects

    def decide(self, sources: Table, movers: Table) -> np.ndarray:
        """(N,) the object joined: diaObjectId, ssObjectId, or the own id for a new one."""
        found = associate(sources, self.objects, GATE, START, movers=movers)
        stored = found.stored_objects
        kept = ~np.isin(self.objects["diaObjectId"], stored["diaObjectId"])
        self.objects = concatenate([self.objects.take(kept), stored])
        return np.where(found.ss_object_ids > 0, found.ss_object_ids, found.object_ids)


class Nearest:
    """The nearest within the gate; objects keep their places, new ones are added."""

    def __init__(self, field: Field):
        self.ids = field.objects["diaObjectId"]
        self.places = unit_vectors(field.objects["ra"], field.objects["dec"])

    def decide(self, sources: Table, movers: Table) -> np.ndarray:
        """(N,) as Ours.decide."""
        all_places = np.concatenate([self.places, unit_vectors(movers["ra"], movers["dec"])])
        all_ids = np.append(self.ids, movers["ssObjectId"])
        here = unit_vectors(sources["ra"], sources["dec"])
        away, row = cKDTree(all_places).query(here, distance_upper_bound=np.radians(GATE / 3600))
        new = ~np.isfinite(away)
        chosen = np.where(new, sources["diaSourceId"], np.append(all_ids, 0)[row])
        self.places = np.concatenate([self.places, here[new]])
        self.ids = np.append(self.ids, sources["diaSourceId"][new])
        return chosen


def wrong(decider: Ours | Nearest, visits: list[tuple[Table, np.ndarray, Table]]) -> tuple[int, int]:
    """How many decisions are wrong, and how many there are."""
    name_of: dict[int, int] = {}
    bad = count = 0
    for sources, truth, movers in visits:
        own = sources["diaSourceId"]
        chosen = decider.decide(sources, movers)
        for one, joined, mine in zip(truth.tolist(), chosen.tolist(), own.tolist(), strict=True):
            expected = one
            if one >= NEW_TRUTH and one < MOVER:
                expected = name_of.setdefault(one, mine)
            bad += joined != expected
        count += len(truth)
    return bad, count


def quality(seeds: list[int]) -> dict[str, dict[str, float]]:
    """Wrong associations, %, by field, over all seeds."""
    made: dict[str, dict[str, float]] = {}
    for number, (name, (ra, dec, known, movers)) in enumerate(FIELDS.items()):
        totals = {"gpudiff": [0, 0], "nearest neighbour": [0, 0]}
        for seed in seeds:
            field = Field(100 * seed + number, (ra, dec), known, movers)
            visits = [field.visit(visit) for visit in range(VISITS)]
            for who, decider in (("gpudiff", Ours(field)), ("nearest neighbour", Nearest(field))):
                bad, count = wrong(decider, visits)
                totals[who][0] += bad
                totals[who][1] += count
        made[name] = {who: 100 * bad / count for who, (bad, count) in totals.items()}
        made[name]["decisions"] = totals["gpudiff"][1]
    return made


def tracklets(seeds: list[int]) -> dict[str, float]:
    """Unknown movers of up to an arcsec a minute that a third visit links, and strangers that it links, in %."""
    strangers, movers = 3000, 300  # unrelated detections a visit, in 7 square degrees, and movers among them
    linked = false = 0
    for seed in seeds:
        field = Field(seed, (40.0, -10.0), 0, movers)
        field.rates = field.random.uniform(-0.4, 0.4, (movers, 2))
        frames = []
        for visit in range(3):
            there = field.movers + field.rates * visit * GAP_DAYS
            off = np.concatenate([there, field._scattered(strangers)])
            off += field.random.normal(scale=0.08 * ARCSEC, size=off.shape)
            frames.append(field._sources(off, np.full(len(off), 0.08), np.zeros(len(off)), visit + 1))
        earlier = concatenate(frames[:2])
        columns = {c.name: earlier[c.name] for c in LOOSE if c.name != "trackletId"}
        found = link(frames[2], Table(LOOSE, {**columns, "trackletId": np.zeros(len(earlier))}), LinkLimits())
        linked += int(np.count_nonzero(found[:movers] == frames[0]["diaSourceId"][:movers]))
        false += int(np.count_nonzero(found[movers:]))
    return {"linked": 100 * linked / movers / len(seeds), "false": 100 * false / strangers / len(seeds)}


def speed(repeats: int) -> dict[str, float]:
    """Milliseconds of one visit: 10,000 detections, 100,000 known objects, 2,000 predicted movers."""
    field = Field(1, (30.0, -20.0), 100_000, 2000)
    sources, _, movers = field.visit(0)
    sources = sources.take(slice(0, 10_000))
    loose = Table(LOOSE, {c.name: sources[c.name] if c.name != "trackletId" else np.zeros(10_000) for c in LOOSE})
    loose = loose.take(slice(0, 3000)).replace(midpointMjdTai=np.full(3000, START - 0.02))
    figures = {
        "associate": lambda: associate(sources, field.objects, GATE, START, movers=movers),
        "associate, with tracklets": lambda: associate(
            sources, field.objects, GATE, START, movers=movers, loose=loose
        ),
        "nearest neighbour": lambda: Nearest(field).decide(sources, movers),
    }
    return {name: 1000 * common.median_s(work, repeats) for name, work in figures.items()}


def main() -> None:
    parser = common.arguments(__doc__, seeds="1,2,3")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs (%(default)s)")
    options = parser.parse_args()
    judged = quality([int(seed) for seed in options.seeds.split(",")])
    links = tracklets([int(seed) for seed in options.seeds.split(",")])
    timed = speed(options.repeats)
    print(f"{common.device()}; load {os.getloadavg()[0]:.1f}")
    for name, row in judged.items():
        shown = ", ".join(f"{who} {row[who]:.3f} %" for who in ("gpudiff", "nearest neighbour"))
        print(f"  {name:<16} wrong of {row['decisions']:>7}: {shown}")
    print(
        f"  tracklets: {links['linked']:.1f} % of movers linked, {links['false']:.3f} % of strangers (limit 0.1 %)"
    )
    for name, milliseconds in timed.items():
        print(
            f"  {name:<28} {milliseconds:7.1f} ms  (10,000 detections, 100,000 known, 2,000 movers in the visit)"
        )
    figures = {"wrong_percent": judged, "tracklets_percent": links, "milliseconds": timed}
    common.record(__file__, {"seeds": options.seeds, **figures}, options)


if __name__ == "__main__":
    main()

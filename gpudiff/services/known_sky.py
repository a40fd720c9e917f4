"""The known sky: the snapshot of known objects below, tonight's own above; looked up by place."""

import numpy as np

from gpudiff.edges.object_store import ObjectStore
from gpudiff.model.association import MOVING, NEW, Association
from gpudiff.model.sky import angles, unit_vectors, within
from gpudiff.model.tables import DIAOBJECT, LOOSE, Table, concatenate
from gpudiff.science.associate import NEIGHBOURHOOD
from gpudiff.science.neighbours import Neighbours
from gpudiff.services.loose import Loose
from gpudiff.services.sky_table import SkyTable

CONES = 4
"""Of the snapshot that are kept: visits that are announced, and the one that comes in."""
NEAR = 0.01
"""Degrees: an object is not farther from its detections."""


class _Cone:
    """A part of the snapshot in memory."""

    def __init__(self, ra: float, dec: float, radius: float, objects: Table):
        self.ra, self.dec, self.radius, self.objects = ra, dec, radius, objects
        self._neighbours = Neighbours(objects["ra"], objects["dec"], NEIGHBOURHOOD)
        self._ids = np.sort(objects["diaObjectId"])

    def has(self, ids: np.ndarray) -> np.ndarray:
        """(N,) bool: whether one of its objects has this id."""
        return np.searchsorted(self._ids, ids, "right") > np.searchsorted(self._ids, ids)

    def near(self, ra: np.ndarray, dec: np.ndarray) -> Table:
        """Its objects within NEIGHBOURHOOD of any of (N,) places."""
        return self.objects.take(self._neighbours.of(ra, dec))

    def holds(self, ra: np.ndarray, dec: np.ndarray, margin: float) -> bool:
        """Whether (N,) places are in it with all that is within `margin` degrees of them."""
        inner = self.radius - margin
        return inner >= 0 and bool(within(ra, dec, self.ra, self.dec, inner).all())


class KnownSky:
    """DIAObjects in memory.  The ledger is the truth; this is its copy, made anew at every start."""

    def __init__(self, objects: Table, snapshot: ObjectStore | None = None):
        """objects : Table of model.tables.DIAOBJECT, the ledger's; those that the snapshot holds in the same
        version are left to it
        """
        if snapshot is not None:
            objects = objects.take(objects["validityStartMjdTai"] > snapshot.until)
        self._tonight = SkyTable(objects)
        self._snapshot = snapshot
        self._cones: list[_Cone] = []
        self._loose = Loose()

    def __len__(self) -> int:
        """Tonight's objects; those of the snapshot are not counted."""
        return len(self._tonight)

    def __contains__(self, object_id: int) -> bool:
        return bool(self.has(np.array([object_id]))[0])

    def has(self, ids: np.ndarray) -> np.ndarray:
        """(N,) bool: whether one of tonight's, or of the snapshot near a place lately asked for, has this id."""
        return np.any([self._tonight.has(ids), *(cone.has(ids) for cone in self._cones)], axis=0)

    # ------------------------------------------------------------ objects
    def prepare(self, ra: float, dec: float, radius: float) -> None:
        """Read the snapshot's objects for detections within `radius` degrees of a place, before they come."""
        if self._snapshot is not None:
            self._cone(np.array([ra]), np.array([dec]), radius + NEIGHBOURHOOD / 3600)

    def near(self, ra: np.ndarray, dec: np.ndarray) -> Table:
        """The objects within NEIGHBOURHOOD of any of (N,) places.

        An object that tonight has changed is there once, as it is now.
        """
        placed = np.isfinite(ra) & np.isfinite(dec)
        if not placed.any():
            return Table.empty(DIAOBJECT)
        ra, dec, margin = ra[placed], dec[placed], NEIGHBOURHOOD / 3600
        own = self._tonight.within(ra, dec, margin)
        if self._snapshot is None:
            return own
        below = self._cone(ra, dec, margin).near(ra, dec)
        return concatenate([below.take(~self._tonight.has(below["diaObjectId"])), own])

    def before(self, ids: list[int], ra: np.ndarray, dec: np.ndarray) -> Table:
        """The snapshot's version of objects with these ids near (N,) places: what to rebuild them from."""
        placed = np.isfinite(ra) & np.isfinite(dec)
        if self._snapshot is None or not placed.any():
            return Table.empty(DIAOBJECT)
        objects = self._cone(ra[placed], dec[placed], NEAR).objects
        return objects.take(np.isin(objects["diaObjectId"], ids))

    def put(self, objects: Table) -> None:
        """Add objects, or replace those that are there under the same id."""
        self._tonight.put(objects)

    def remove(self, ids: list[int]) -> None:
        """Forget what tonight made of objects: the snapshot's version, if any, shows again."""
        self._tonight.remove(ids)

    def begin(self) -> None:
        """From here on `undo` leads back to the sky as it is now."""
        self._tonight.begin()
        self._loose.begin()

    def undo(self) -> None:
        """Be as at the last `begin`: the ledger did not take what came since."""
        self._tonight.undo()
        self._loose.undo()

    # ------------------------------------------------------------ loose detections
    def note(self, sources: Table, found: Association) -> None:
        """Keep what belongs to nothing, for tracklets; forget what has found its object.

        sources : DIASources of a frame, found : what became of them
        """
        free = ((found.kind == NEW) & (found.object_ids > 0)) | (
            (found.kind == MOVING) & (found.ss_object_ids == 0)
        )
        free &= np.isfinite(sources["ra"]) & np.isfinite(sources["midpointMjdTai"])
        names = [c.name for c in LOOSE if c.name != "trackletId"]
        columns = {name: sources[name][free] for name in names}
        columns["trackletId"] = found.tracklet_ids[free]
        self._loose.forget([*found.object_ids[found.known].tolist(), *sources["diaSourceId"].tolist()])
        self._loose.add(Table(LOOSE, columns))

    def loose(self, ra: np.ndarray, dec: np.ndarray, margin: float) -> Table:
        """The loose detections within `margin` degrees of any of (N,) places, and others round them."""
        placed = np.isfinite(ra) & np.isfinite(dec)
        if not placed.any():
            return Table.empty(LOOSE)
        return self._loose.near(ra[placed], dec[placed], margin)

    # ------------------------------------------------------------ inside
    def _cone(self, ra: np.ndarray, dec: np.ndarray, margin: float) -> _Cone:
        """A cone of the snapshot that holds (N,) places with a margin; the least lately used makes room."""
        for cone in self._cones:
            if cone.holds(ra, dec, margin):
                self._cones.remove(cone)
                self._cones.append(cone)
                return cone
        assert self._snapshot is not None
        around = circle(ra, dec, margin)
        made = _Cone(*around, self._snapshot.cone(*around))
        self._cones = [*self._cones, made][-CONES:]
        return made


def circle(ra: np.ndarray, dec: np.ndarray, margin: float) -> tuple[float, float, float]:
    """Centre and radius, degrees, of a circle that holds every place with a margin."""
    places = unit_vectors(ra, dec)
    middle = places.mean(0)
    chord = np.linalg.norm(places - middle / np.linalg.norm(middle), axis=1).max()
    radius = np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) + margin
    at_ra, at_dec = angles(middle)
    return float(at_ra), float(at_dec), float(radius)

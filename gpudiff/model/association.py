"""Association: what became of each DIASource of a batch: known, tonight's, moving or new."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.model.tables import Table, concatenate

KNOWN, TONIGHT, MOVING, NEW = range(4)
KINDS = ("known", "tonight", "moving", "new")
"""Names of the values of `Association.kind`, in their order."""

ARRAYS = ("kind", "ss_object_ids", "tracklet_ids", "runner_up", "probability")
"""What an Association has of each DIASource beside its object."""


@dataclass(frozen=True)
class Association:
    """Row i is about DIASource i of the batch; no two rows share an object.

    kind : (N,) int8: KNOWN joined an object of earlier nights, TONIGHT one first seen tonight; MOVING is a Solar
        System object, or something unknown that moves; NEW makes an object of its own
    ss_object_ids : (N,) int64, the Solar System object; 0 for none, also where something unknown moves
    tracklet_ids : (N,) int64, diaSourceId of the first of tonight's detections that lie on one line with this
        one; 0 for none
    runner_up : (N,) int64, diaObjectId of the next best candidate within the gate, 0 for none
    probability : (N,) float64, of the choice made, given the candidates within the gate and "new"
    objects : Table of model.tables.DIAOBJECT: each source's object as it is after this detection; a source that
        has none, as all that is MOVING, has diaObjectId 0 there, and that row is not to be stored
    """

    kind: np.ndarray
    ss_object_ids: np.ndarray
    tracklet_ids: np.ndarray
    runner_up: np.ndarray
    probability: np.ndarray
    objects: Table

    def take(self, rows: slice) -> "Association":
        """That of some of the DIASources."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in ARRAYS}
        return Association(**arrays, objects=self.objects.take(rows))

    @property
    def known(self) -> np.ndarray:
        """(N,) bool: joined an object that was there before."""
        return (self.kind == KNOWN) | (self.kind == TONIGHT)

    @property
    def moving(self) -> np.ndarray:
        """(N,) bool: belongs to no DIAObject."""
        return self.kind == MOVING

    @property
    def stored_objects(self) -> Table:
        """The rows of `objects` that are objects."""
        return self.objects.take(self.object_ids > 0)

    @property
    def object_ids(self) -> np.ndarray:
        """(N,) int64 diaObjectId of each source; 0 for what is MOVING."""
        return self.objects["diaObjectId"]


def together(found: Sequence[Association]) -> Association:
    """Those of several batches, one after the other; at least one."""
    if len(found) == 1:
        return found[0]
    joined: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in found]) for name in ARRAYS}
    return Association(**joined, objects=concatenate([one.objects for one in found]))

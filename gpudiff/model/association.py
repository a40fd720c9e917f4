"""Association: what became of each DIASource of a batch, known or new."""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.tables import Table


@dataclass(frozen=True)
class Association:
    """Row i is about DIASource i of the batch; no two rows share an object.

    known : (N,) bool, joined an object that was there before
    runner_up : (N,) int64, diaObjectId of the next best candidate within the gate, 0 for none
    probability : (N,) float64, of the choice made, given the candidates within the gate and "new"
    objects : Table of model.tables.DIAOBJECT: each source's object as it is after this detection
    """

    known: np.ndarray
    runner_up: np.ndarray
    probability: np.ndarray
    objects: Table

    @property
    def object_ids(self) -> np.ndarray:
        """(N,) int64 diaObjectId of each source."""
        return self.objects["diaObjectId"]

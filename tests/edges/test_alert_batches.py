"""What alerts say as rows of OUTGOING."""

import numpy as np

from gpudiff.edges.alert_batches import row_of
from gpudiff.model.association import MOVING, NEW
from gpudiff.model.outgoing import OUTGOING

SOURCE = {"diaSourceId": 5, "midpointMjdTai": 61000.5, "psfFlux": 7.0, "band": "g"}


def test_an_alert_without_an_object_is_its_only_detection():
    row = row_of({"diaSource": SOURCE, "diaObject": None, "association": {"kind": "moving"}})
    assert (row["kind"], row["nDiaSources"], row["firstDiaSourceMjdTai"]) == (MOVING, 1, 61000.5)


def test_an_alerts_object_says_how_often_it_was_seen():
    row = row_of({"diaSource": SOURCE, "diaObject": {"nDiaSources": 9, "firstDiaSourceMjdTai": 60000.0}})
    assert (row["nDiaSources"], row["firstDiaSourceMjdTai"]) == (9, 60000.0)


def test_what_an_alert_lacks_is_nothing():
    row = row_of({"diaSource": SOURCE})
    assert row.keys() == {column.name for column in OUTGOING}
    assert (row["kind"], row["diaObjectId"], row["revision"]) == (NEW, 0, 0)
    assert np.isnan(row["probability"])

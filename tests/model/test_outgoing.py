"""gpudiff.model.outgoing: batches of alerts on their way out."""

import dataclasses

import numpy as np
import pytest
from outgoing import an_outgoing

from gpudiff.model.outgoing import PUBLISHED
from gpudiff.model.tables import Table


def published(count):
    return Table(PUBLISHED, {c.name: np.arange(count, dtype=c.dtype) for c in PUBLISHED})


def test_picked_rows_keep_all_that_is_known_of_them():
    batch = dataclasses.replace(an_outgoing(3), published=published(3), sources=[b"a", b"b", b"c"])
    some = batch.take(np.array([0, 2]), "ff")
    assert some.rows["diaSourceId"].tolist() == batch.rows["diaSourceId"][[0, 2]].tolist()
    assert some.alerts == [batch.alerts[0], batch.alerts[2]]
    assert some.sources == [b"a", b"c"]
    assert some.published["psfFlux"].tolist() == [0, 2]
    assert some.fingerprint == "ff"


@pytest.mark.parametrize("columns", [{"alerts": [b""]}, {"sources": [b""]}, {"published": published(1)}])
def test_what_is_not_one_a_row_is_no_batch(columns):
    with pytest.raises(ValueError, match=r"expected .* a row, got 1 for 3"):
        dataclasses.replace(an_outgoing(3), **columns)

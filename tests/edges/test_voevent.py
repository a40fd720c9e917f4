"""gpudiff.edges.voevent: events that are valid against the schema of VOEvent 2.0."""

import numpy as np
import pytest
from outgoing import an_outgoing

from gpudiff.edges.notices import sources
from gpudiff.edges.voevent import utc, write_event
from gpudiff.model.errors import BadMessage

voeventparse = pytest.importorskip("voeventparse")  # cannot be installed from Python 3.12 on


def event(revision: int = 0, **columns) -> bytes:
    batch = an_outgoing(1, revision, **columns)
    return write_event(next(iter(batch.rows.rows())), sources(batch)[1][0], batch.fingerprint)


def test_an_event_is_valid_against_the_schema():
    for revision in (0, 2):
        voeventparse.assert_valid_as_v2_0(voeventparse.loads(event(revision)))


def test_an_event_says_where_and_when():
    read = voeventparse.loads(event())
    place = voeventparse.get_event_position(read)
    assert (place.ra, place.dec) == (150.0, -30.0)
    assert place.err == pytest.approx(2e-5 * 2**0.5, rel=1e-2)  # three digits
    assert voeventparse.get_event_time_as_utc(read).isoformat()[:19] == utc(61007.0)[:19]


def test_an_event_says_what_its_alert_says():
    batch = an_outgoing(1)
    read = voeventparse.loads(write_event(next(iter(batch.rows.rows())), sources(batch)[1][0], "ab" * 16))
    told = {param.get("name"): param.attrib for param in read.What.Param}
    assert float(told["psfFlux"]["value"]) == pytest.approx(sources(batch)[1][0]["psfFlux"], rel=1e-7)
    assert told["psfFlux"]["unit"] == "nJy"
    assert told["diaSourceId"]["value"] == str(batch.rows["diaSourceId"][0])
    assert told["kind"]["value"] == "new"


def test_a_revision_supersedes_the_one_before():
    read = voeventparse.loads(event(2))
    assert read.get("ivorn").endswith("-2")
    assert read.Citations.EventIVORN.get("cite") == "supersedes"
    assert read.Citations.EventIVORN.text == read.get("ivorn")[:-1] + "1"


def test_times_are_utc():
    assert utc(58000.0) == "2017-09-03T23:59:23.000"  # TAI is 37 s ahead since 2017


def test_an_alert_without_a_position_has_no_event():
    with pytest.raises(BadMessage, match="position"):
        event(ra=np.nan)

"""gpudiff.edges.next_visit: announcements as bytes and files."""

import json

import pytest

from gpudiff.edges.next_visit import REQUIRED, Message, decode, encode, from_json, read_visits
from gpudiff.model.errors import BadMessage, InputRejected, MissingKey, UnreadableFile, WrongCoordinates
from gpudiff.model.next_visit import NextVisit

FULL = NextVisit(
    visit=7,
    revision=2,
    horizon="next",
    ra=10.5,
    dec=-20.25,
    rotation_deg=33.0,
    start_tai=61000.25,
    band="r",
    duration_s=34.0,
    images=2,
    detectors=(4, 5),
    supersedes=(6,),
    valid_until=61000.5,
    group="2026-11-24T00:00:00#1",
    instrument="LSSTCam",
    survey="wide",
    sent_tai=61000.125,
)
LEAST = {
    "visit": 7,
    "revision": 0,
    "horizon": "night",
    "position": [10.5, -20.25],
    "coordinateSystem": 2,
    "rotationSystem": 2,
    "cameraAngle": 0.0,
}


def said(**values) -> bytes:
    return json.dumps({key: value for key, value in {**LEAST, **values}.items() if value is not ...}).encode()


def test_a_visit_survives_the_wire():
    assert decode(encode(FULL)) == FULL


def test_what_is_not_known_may_be_left_out():
    visit = from_json(said(moon="full"))
    assert (visit.visit, visit.ra, visit.band, visit.images, visit.detectors) == (7, 10.5, "", 0, ())
    assert visit.start_tai != visit.start_tai


def test_the_start_counts_tai_seconds_as_unix_time_does():
    # MJD 60676 is 2025-01-01; 1735689600 is its Unix time.  TAI on both sides: no leap seconds between.
    assert from_json(said(startTime=1735689600.0)).start_tai == 60676.0


@pytest.mark.parametrize("key", sorted(LEAST))
def test_a_missing_key_is_named(key):
    with pytest.raises(MissingKey, match=key):
        from_json(said(**{key: ...}))


@pytest.mark.parametrize("values", [{"coordinateSystem": 3}, {"rotationSystem": "HORIZON"}, {"rotationSystem": 1}])
def test_other_coordinates_than_the_sky_s_are_refused(values):
    with pytest.raises(WrongCoordinates, match="expected coordinates ICRS"):
        from_json(said(**values))


def test_coordinate_systems_may_be_named():
    assert from_json(said(coordinateSystem="ICRS", rotationSystem="SKY")).visit == 7


@pytest.mark.parametrize(
    "values",
    [
        {"visit": -1},
        {"visit": 1 << 39},
        {"revision": -1},
        {"horizon": "week"},
        {"position": [370, 0]},
        {"position": [0, 91]},
        {"position": [0]},
        {"position": None},
        {"detectors": [256]},
        {"nimages": -1},
        {"nimages": 101},
        {"startTime": "noon"},
        {"startTime": 1795500000000.0},
        {"duration": -1},
        {"duration": 1e10},
        {"valid_until": 2461367.5},
        {"supersedes": [-1]},
        {"supersedes": [1 << 39]},
        {"cancelled": 1},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(values):
    with pytest.raises(BadMessage):
        from_json(said(**values))


def test_a_detector_that_is_named_twice_counts_once():
    assert from_json(said(detectors=[4, 5, 4])).detectors == (4, 5)


def test_a_refusal_says_what_was_expected_and_what_came():
    with pytest.raises(
        BadMessage, match=r"horizon: expected one of .*'next'.*, got 'week'; nimages: expected 0 to 100"
    ):
        from_json(said(horizon="week", nimages=-1))
    long = said(groupId="x" * 70000)
    with pytest.raises(BadMessage, match=rf"at most 65536 bytes.*, got parts of 4, {len(long)} bytes"):
        decode([b"GDN1", long])


def test_a_key_that_is_not_required_may_be_null():
    optional = [key for key in Message.__struct_fields__ if key not in REQUIRED]
    null, absent = (from_json(said(**dict.fromkeys(optional, value))) for value in (None, ...))
    assert vars(null) == vars(absent)  # in dicts the same NaN is equal


@pytest.mark.parametrize("parts", [[], [b"GDN1"], [b"GDN1", b"{"], [b"GDN1", b"[]"], [b"GDN1", b"[" * 60000]])
def test_what_is_no_announcement_is_refused(parts):
    with pytest.raises(BadMessage):
        decode(parts)


def test_json_lines_are_read(tmp_path):
    (tmp_path / "visits.jsonl").write_bytes(said() + b"\n\n" + said(visit=8) + b"\n")
    assert [visit.visit for visit in read_visits(tmp_path / "visits.jsonl")] == [7, 8]


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "visits.jsonl").write_bytes(said() + b"\n" + said(visit=...) + b"\n")
    with pytest.raises(MissingKey, match=r"visits.jsonl: line 2: next visit: missing visit"):
        list(read_visits(tmp_path / "visits.jsonl"))


@pytest.mark.parametrize(
    "columns",
    [
        "observationId,observationStartMJD,visitTime,filter,fieldRA,fieldDec,rotSkyPos",
        "visit,mjd_start_tai,exposure_s,band,ra,dec,rotation_deg",
    ],
)
def test_a_simulated_night_is_read_a_schedulers_or_our_own(tmp_path, columns):
    (tmp_path / "night.csv").write_text(f"{columns},more\n5,60483.9,34,z,196,-21,95,x\n")
    (visit,) = read_visits(tmp_path / "night.csv", revision=4, horizon="hour")
    assert vars(visit) == vars(NextVisit(5, 4, "hour", 196.0, -21.0, 95.0, 60483.9, "z", 34.0))  # NaN


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "observationId\nx\n"])
def test_a_table_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "night.csv").write_text(text)
    with pytest.raises(InputRejected):
        list(read_visits(tmp_path / "night.csv"))


def test_a_file_that_is_absent_is_refused(tmp_path):
    with pytest.raises(UnreadableFile):
        list(read_visits(tmp_path / "absent.jsonl"))

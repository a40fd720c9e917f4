"""gpudiff.edges.alert_codec: alerts as Avro, spliced from records encoded once."""

import io
import re
from dataclasses import replace
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from batches import a_batch
from lsst.alert.packet import Schema, get_schema_path

from gpudiff.edges import alert_codec
from gpudiff.edges.alert_schema import alert_schema
from gpudiff.model.association import MOVING
from gpudiff.model.batch import OwnPlanes
from gpudiff.model.errors import BadMessage
from gpudiff.model.tables import DIAOBJECT, FORCED_SOURCE, Table, flag
from gpudiff.science.alert import make_alerts
from gpudiff.science.associate import associate
from gpudiff.science.objects import new_objects
from gpudiff.science.solar_system import Sight

NOW = 61020.0


def encoded(count: int = 2, known: bool = True, history=(), **columns):
    """The alerts of a batch, as bytes."""
    batch = a_batch(count, **columns)
    before = new_objects(a_batch(count, visit=1, **columns).sources, 61001.0)
    found = associate(batch.sources, before if known else Table.empty(DIAOBJECT), 1.0, NOW)
    alerts = make_alerts(batch, found, 0, "", NOW)
    [sources] = alert_codec.encode_sources([alerts])
    return alerts_of(alerts, [list(history)] * count), sources


def a_frames(batch, seen=None, **changed):
    """The alerts of new sources, some of their association changed, before they are encoded."""
    found = replace(associate(batch.sources, Table.empty(DIAOBJECT), 1.0, NOW), **changed)
    return make_alerts(batch, found, 0, "", NOW, seen)


def alerts_of(alerts, history=None, forced=None) -> list[bytes]:
    """The alerts of one frame."""
    none = [[] for _ in range(len(alerts.sources))]
    sources = alert_codec.encode_sources([alerts])
    return next(alert_codec.encode_alerts([alerts], sources, [history or none], [forced or none])).whole()


def rubin(major: int, minor: int) -> dict:
    """The schema that Rubin publishes, with its records written out where they are first used."""
    path = Path(get_schema_path(major, minor)) / f"lsst.v{major}_{minor}.alert.avsc"
    return Schema.from_file(str(path)).definition


@pytest.mark.parametrize("depth", [0, 1, 70])
def test_a_spliced_alert_is_what_a_general_encoder_writes(depth):
    (data, _), _ = encoded(history=encoded()[1][:1] * depth)
    alert = alert_codec.decode_alert(data)
    assert len(alert["prvDiaSources"] or []) == depth
    assert written(alert) == data


def test_forced_photometry_is_in_the_alert_and_written_as_a_general_encoder_does():
    forced = alert_codec.encode_forced(a_forced(), {"timeProcessedMjdTai": NOW, "fluxUnit": "nJy"})
    data = alert_of(forced=[forced])
    alert = alert_codec.decode_alert(data)
    first, second = alert["prvDiaForcedSources"]
    assert (first["psfFlux"], second["psfFlux"], first["band"]) == (None, 2.5, "r")
    assert second["diaForcedSourceId"] == (7 << 24 | 4 << 16 | 1)
    assert written(alert) == data


def test_a_mover_of_known_orbit_has_a_solar_system_record_and_no_object():
    data = alert_of(kind=np.array([MOVING], np.int8), ss_object_ids=np.array([99]))
    alert = alert_codec.decode_alert(data)
    assert alert["diaObject"] is None
    assert alert["ssSource"]["ssObjectId"] == alert["diaSource"]["ssObjectId"] == 99
    assert alert["association"]["kind"] == "moving"
    read = fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(alert_schema()), rubin(11, 1))
    assert read["ssSource"]["diaSourceId"] == read["diaSourceId"]
    assert written(alert) == data


def test_what_is_known_of_a_solar_system_object_is_in_its_alert():
    there = np.array([[2.0, 0.5, 0.1, 0, 0.01, 0]])
    seen = Sight(
        np.array([99]), np.array(["2026 AB"]), np.array([np.nan]), there, np.array([1.0, 0, 0, 0, 0.017, 0])
    )
    [data] = alerts_of(a_frames(a_batch(1), seen, ss_object_ids=np.array([99])))
    told = alert_codec.decode_alert(data)["ssSource"]
    assert (told["designation"], told["diaDistanceRank"], told["ephVmag"]) == ("2026 AB", 1, None)
    assert told["helioRange"] == pytest.approx(np.sqrt(4.26))
    assert [told[f"topo_{axis}"] for axis in "xyz"] == pytest.approx([1, 0.5, 0.1])
    assert written(alert_codec.decode_alert(data)) == data


def test_planes_of_science_and_template_are_in_the_alert():
    variance = np.ones((2, 2, 51, 51), np.float32) * np.array([3, 4], np.float32)[None, :, None, None]
    own = OwnPlanes(variance, np.zeros((2, 2, 51, 51), np.uint16), np.full((2, 25, 25), 0.1, np.float32))
    for data in alerts_of(a_frames(replace(a_batch(2), own=own))):
        alert = alert_codec.decode_alert(data)
        for name, value in (("Science", 3), ("Template", 4)):
            with fits.open(io.BytesIO(alert[f"cutout{name}"])) as hdus:
                assert [hdu.name for hdu in hdus] == [name.upper(), "UNCERT", "MASK", "PSFIMAGE"]
                assert np.all(hdus["UNCERT"].data == value)
        assert written(alert) == data


def a_forced() -> Table:
    values = {c.name: np.zeros(2, c.dtype) for c in FORCED_SOURCE}
    own = {"visit": [7, 7], "detector": [4, 4], "band": ["r", "r"], "psfFlux": [np.nan, 2.5]}
    return Table(FORCED_SOURCE, {**values, **own})


def alert_of(forced=None, **changed) -> bytes:
    """The alert of one new source, some of its association changed."""
    return alerts_of(a_frames(a_batch(1), **changed), forced=forced)[0]


def written(alert: dict) -> bytes:
    """The alert by a general encoder."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(alert_schema()), alert)
    return out.getvalue()


def test_an_alert_says_what_its_source_says():
    batch = a_batch(2)
    alert = alert_codec.decode_alert(encoded()[0][1])
    source = alert["diaSource"]
    for name in batch.sources.columns:
        if name in ("trailAngle", "dipoleAngle", "ixx", "iyy", "ixy", "reliability"):
            continue
        assert source[name] == pytest.approx(batch.sources[name][1], rel=1e-6), name
    assert alert["diaSourceId"] == source["diaSourceId"] == batch.sources["diaSourceId"][1]
    assert (source["band"], source["fluxUnit"]) == ("r", "adu")
    assert source["timeProcessedMjdTai"] == NOW


def test_a_known_object_comes_with_its_counts():
    alert = alert_codec.decode_alert(encoded()[0][0])
    assert alert["diaObject"]["nDiaSources"] == 2
    assert alert["diaSource"]["diaObjectId"] == alert["diaObject"]["diaObjectId"] == (1 << 24 | 4 << 16)
    assert alert["association"]["known"] is True
    assert alert_codec.decode_alert(encoded(known=False)[0][0])["association"]["known"] is False


def test_fluxes_are_nanojansky_when_the_zero_point_is_known():
    source = alert_codec.decode_alert(encoded(zero_point=31.4)[0][0])["diaSource"]
    assert source["fluxUnit"] == "nJy"
    assert source["psfFlux"] == pytest.approx(1000 * 10**0, rel=1e-4)  # 31.4 is 1 nJy to 1e-4: 8.9 + 2.5 * 9


def test_what_is_unknown_is_null():
    source = alert_codec.decode_alert(encoded(psfChi2=np.nan)[0][0])["diaSource"]
    assert source["psfChi2"] is None
    assert source["reliability"] is None


def test_a_reliability_is_told():
    source = alert_codec.decode_alert(encoded(reliability=0.75)[0][0])["diaSource"]
    assert source["reliability"] == 0.75


def test_flags_are_told_in_the_words_of_the_standard_too():
    source = alert_codec.decode_alert(encoded(flags=flag("SATURATED", "EDGE"), flagged=True)[0][0])["diaSource"]
    assert source["pixelFlags_saturated"]
    assert source["pixelFlags_edge"]
    assert not source["pixelFlags_cr"]
    assert source["flagged"]


def test_the_provenance_is_sixteen_bytes():
    provenance = alert_codec.decode_alert(encoded()[0][0])["provenance"]
    assert len(provenance["fingerprint"]) == 16
    assert provenance["revision"] == 0
    assert provenance["latency_s"] == pytest.approx((NOW - 61007.0002) * 86400, rel=1e-6)


def test_cutouts_are_fits_of_difference_science_and_template():
    batch, alert = a_batch(2), alert_codec.decode_alert(encoded()[0][1])
    for kind, name in enumerate(("cutoutDifference", "cutoutScience", "cutoutTemplate")):
        np.testing.assert_array_equal(fits.getdata(io.BytesIO(alert[name])), batch.cutouts[1, kind])


@pytest.mark.parametrize("version", [(9, 0), (10, 0), (11, 0), (11, 1)])
def test_a_rubin_reader_reads_our_alerts(version):
    reader = rubin(*version)
    history = encoded()[1][:1] * 3
    (data, _), _ = encoded(history=history)
    schema = fastavro.parse_schema(alert_schema())
    read = fastavro.schemaless_reader(io.BytesIO(data), schema, reader)
    own = alert_codec.decode_alert(data)
    assert read["diaSource"]["psfFlux"] == own["diaSource"]["psfFlux"]
    assert [s["ra"] for s in read["prvDiaSources"]] == [own["diaSource"]["ra"]] * 3
    assert read["diaObject"]["nDiaSources"] == 2
    assert read["cutoutScience"] == own["cutoutScience"]
    assert "provenance" not in read


def names(schema: dict) -> dict:
    """The fields' types."""
    return {field["name"]: field["type"] for field in schema["fields"]}


def record(schema: dict, name: str) -> dict:
    """The record in a field, or in the array there."""
    kind = names(schema)[name]
    found = next(one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, dict))
    return found["items"] if found["type"] == "array" else found


def units(schema: dict) -> dict:
    """The unit in brackets at the end of each field's description, where there is one."""
    found = {field["name"]: re.findall(r"\[([^\]]*)\]", field.get("doc", "")) for field in schema["fields"]}
    return {name: unit[-1].replace("**", "") for name, unit in found.items() if unit}


@pytest.mark.parametrize("part", ["diaSource", "diaObject", "prvDiaForcedSources", "ssSource"])
def test_a_field_has_the_unit_that_the_rubin_schema_gives_it(part):
    ours, theirs = units(record(alert_schema(), part)), units(record(rubin(11, 1), part))
    assert {name: unit for name, unit in theirs.items() if ours.get(name, "").split(",")[0] != unit} == {}


def test_every_field_of_the_rubin_schema_is_ours_too():
    theirs = rubin(11, 1)

    assert not set(names(theirs)) - set(names(alert_schema()))
    for part in ("diaSource", "diaObject", "prvDiaForcedSources", "ssSource"):
        ours = names(record(alert_schema(), part))
        for name, kind in names(record(theirs, part)).items():
            plain = {k for k in (kind if isinstance(kind, list) else [kind]) if k != "null"}
            mine = {k for k in (ours[name] if isinstance(ours[name], list) else [ours[name]]) if k != "null"}
            assert mine == plain or (mine, plain) == ({"float"}, {"double"}), name
            assert isinstance(kind, list) or not isinstance(ours[name], list), name


@pytest.mark.parametrize("size", [0, 1, 10, 400, 10000])
def test_a_cut_alert_is_refused(size):
    with pytest.raises(BadMessage):
        alert_codec.decode_alert(encoded()[0][0][:size])


def test_a_source_without_a_position_can_be_alerted():
    alert = alert_codec.decode_alert(encoded(ra=np.nan, dec=np.nan)[0][0])
    assert np.isnan(alert["diaSource"]["ra"])

"""gpudiff.edges.detections: the message between differencer and associator."""

import dataclasses

import msgspec
import numpy as np
import pytest
from batches import a_batch

from gpudiff.edges import detections
from gpudiff.edges.detections import Answer, decode, decode_later, encode, encode_later
from gpudiff.model.batch import OwnPlanes
from gpudiff.model.errors import BadMessage, MissingKey
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import FORCED_SOURCE, Table


def changed_header(parts: list[bytes], **values) -> list[bytes]:
    header = {**msgspec.json.decode(parts[1]), **values}
    return [parts[0], msgspec.json.encode(header), *parts[2:]]


def test_a_batch_survives_the_wire():
    batch = a_batch(3)
    back = decode(encode(batch))
    assert back.observation.frame == batch.observation.frame
    for name, column in batch.sources.columns.items():
        np.testing.assert_array_equal(back.sources[name], column, err_msg=name)
        assert back.sources[name].dtype == column.dtype
    np.testing.assert_array_equal(back.cutouts, batch.cutouts)
    np.testing.assert_array_equal(back.psf, batch.psf)
    assert (back.wcs, back.steps, back.fingerprint) == (batch.wcs, batch.steps, batch.fingerprint)
    assert back.observation.readout_end_tai == batch.observation.readout_end_tai


def with_own(batch, side=5):
    count, size = len(batch.sources), batch.cutouts.shape[-1]
    variance = np.arange(count * 2 * size**2, dtype="<f4").reshape(count, 2, size, size)
    return dataclasses.replace(
        batch, own=OwnPlanes(variance, variance.astype("<u2"), np.ones((2, side, side), "<f4"))
    )


@pytest.mark.parametrize("count", [0, 2])
def test_the_planes_of_science_and_template_survive_the_wire(count):
    batch = with_own(a_batch(count), 7)
    back = decode(encode(batch))
    for name in ("variance", "mask", "psf"):
        np.testing.assert_array_equal(getattr(back.own, name), getattr(batch.own, name))
        assert getattr(back.own, name).dtype == getattr(batch.own, name).dtype
    assert decode(encode(a_batch(count))).own is None


@pytest.mark.parametrize("part", [8, 9, 10])
def test_planes_of_another_size_are_refused(part):
    parts = encode(with_own(a_batch(2)))
    parts[part] = bytes(parts[part])[:-2]
    with pytest.raises(BadMessage, match="do not make"):
        decode(parts)


@pytest.mark.parametrize("count", [7, 9, 10, 12])
def test_another_number_of_parts_is_refused(count):
    parts = [*encode(with_own(a_batch(2))), b""][:count]
    with pytest.raises(BadMessage, match="expected 8 or 11 parts"):
        decode(parts)


def a_forced(visit: int) -> Table:
    values = {c.name: np.zeros(2, c.dtype) for c in FORCED_SOURCE}
    rows = {"visit": [visit] * 2, "detector": [4, 4], "band": ["r", "r"], "ra": [1, 2]}
    return Table(FORCED_SOURCE, {**values, **rows})


def test_forced_photometry_survives_the_wire():
    forced = a_forced(7)
    back = decode(encode(dataclasses.replace(a_batch(1), forced=forced))).forced
    for name, column in forced.columns.items():
        np.testing.assert_array_equal(back[name], column, err_msg=name)


def test_forced_photometry_of_another_visit_is_refused():
    with pytest.raises(BadMessage, match="forced"):
        decode(encode(dataclasses.replace(a_batch(1), forced=a_forced(8))))


def test_forced_photometry_that_was_made_up_survives_the_wire():
    made = MadeUp(FrameId(7, 0, 4), "ab" * 16, "adu", 27.5, a_forced(7))
    back = decode_later(encode_later(made))
    assert dataclasses.replace(back, forced=made.forced) == made
    for name, column in made.forced.columns.items():
        np.testing.assert_array_equal(back.forced[name], column, err_msg=name)


@pytest.mark.parametrize("change", [lambda p: p[:2], lambda p: [p[0], b"{}", p[2]], lambda p: [*p[:2], b"", p[2]]])
def test_a_made_up_message_that_breaks_the_contract_is_refused(change):
    parts = encode_later(MadeUp(FrameId(7, 0, 4), "", "adu", None, a_forced(7)))
    with pytest.raises(BadMessage, match="forced"):
        decode_later(change(parts))


def test_a_batch_without_sources_survives():
    back = decode(encode(a_batch(0)))
    assert len(back.sources) == 0
    assert back.cutouts.shape == (0, 3, 51, 51)


def test_unknown_times_stay_nan():
    batch = a_batch(1)
    unknown = dataclasses.replace(batch.observation, readout_end_tai=float("nan"))
    back = decode(encode(dataclasses.replace(batch, observation=unknown, quality={"chi2": np.float32("nan")})))
    assert np.isnan(back.observation.readout_end_tai)
    assert np.isnan(back.quality["chi2"])


def test_the_arrow_part_names_its_frame():
    import pyarrow as pa

    metadata = pa.ipc.open_stream(encode(a_batch(2))[2]).schema.metadata
    assert metadata == {b"visit": b"7", b"detector": b"4", b"fingerprint": b"ab" * 16}


@pytest.mark.parametrize("batches", [0, 2])
def test_a_stream_of_another_number_of_record_batches_is_refused(batches):
    import pyarrow as pa

    parts = encode(a_batch(2))
    (rows,) = pa.ipc.open_stream(parts[2])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        for _ in range(batches):
            writer.write_batch(rows)
    parts[2] = sink.getvalue().to_pybytes()
    with pytest.raises(BadMessage, match="one batch"):
        decode(parts)


def test_unknown_header_keys_are_ignored():
    assert len(decode(changed_header(encode(a_batch(2)), moon="full")).sources) == 2


def test_a_missing_header_key_is_named():
    parts = encode(a_batch(2))
    header = msgspec.json.decode(parts[1])
    del header["readout_end_tai"]
    with pytest.raises(MissingKey, match="readout_end_tai"):
        decode([parts[0], msgspec.json.encode(header), *parts[2:]])


def test_a_missing_column_is_named():
    import pyarrow as pa

    parts = encode(a_batch(2))
    table = pa.ipc.open_stream(parts[2]).read_all().drop_columns(["snr"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(MissingKey, match="snr"):
        decode([*parts[:2], sink.getvalue().to_pybytes(), *parts[3:]])


@pytest.mark.parametrize(
    "change",
    [
        {"visit": "seven"},
        {"visit": -1},
        {"visit": 8},
        {"detector": 300},
        {"count": 3},
        {"cutouts_shape": [2, 3, 51, 50]},
        {"cutouts_shape": [2, 3, -51, -51]},
        {"psf_shape": [5]},
        {"steps": [1]},
        {"wcs": {"CRPIX1": [1.0]}},
        {"wcs": {"crpix 1\n": 1.0}},
    ],
    ids=str,
)
def test_a_wrong_header_value_is_refused(change):
    with pytest.raises(BadMessage):
        decode(changed_header(encode(a_batch(2)), **change))


@pytest.mark.parametrize("part", range(6))
def test_a_truncated_part_is_refused(part):
    parts = encode(a_batch(2))
    parts[part] = parts[part][: len(parts[part]) // 2]
    with pytest.raises(BadMessage):
        decode(parts)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GDD2"],
        [b"GDF1", b"{}", b"", b"", b"", b""],
        [b"GDD2", b"\xff", *[b""] * 6],
        [b"GDD2", b"[" * 99999, *[b""] * 6],
    ],
)
def test_what_is_not_a_batch_is_refused(parts):
    with pytest.raises(BadMessage):
        decode(parts)


def test_ids_of_another_frame_are_refused():
    batch = a_batch(2)
    foreign = batch.sources.replace(diaSourceId=batch.sources["diaSourceId"] + (1 << 24))
    with pytest.raises(BadMessage, match="diaSourceIds"):
        decode(encode(dataclasses.replace(batch, sources=foreign)))


def test_the_frame_of_a_broken_batch_can_still_be_named():
    assert detections.frame_of([b"GDD2", b'{"visit": 1, "snap": 0, "detector": 2}']) == [1, 0, 2]
    assert detections.frame_of([b"GDD2", b"[1, 2]"]) is None
    assert detections.frame_of([b"GDD2"]) is None
    assert detections.frame_of([b"GDD2", b"[" * 99999]) is None


def test_an_answer_survives_the_wire():
    answer = Answer([7, 0, 4], "committed", alerts=3, known=1, new=2, latency_s=1.5)
    assert detections.decode_answer(detections.encode_answer(answer)) == answer


@pytest.mark.parametrize("said", [b'{"frame": 3}', b'{"status": "done", "more": ' + b"[" * 99999])
def test_what_is_not_an_answer_is_refused(said):
    with pytest.raises(BadMessage):
        detections.decode_answer([b"GDA1", said])

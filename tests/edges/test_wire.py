"""gpudiff.edges.wire: frame messages."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import xxhash
from batches import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from gpudiff.edges import wire, wire_header
from gpudiff.edges.fits import read_frame, write_frame
from gpudiff.model.errors import BadMessage, BadPsf, ChecksumMismatch, InputRejected, MissingKey
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.provenance import with_digest

LIMIT = 1 << 20


def full_frame() -> Frame:
    """A frame that says everything a frame can say."""
    rng = np.random.default_rng(1)
    observation = Observation(FrameId(7, 1, 42), "g", 61000.0, 61000.1, 61000.2, 17.28, 150.0, -30.0, 12.5)
    return with_digest(
        Frame(
            "night/7.fits",
            observation,
            rng.normal(100, 3, (5, 7)).astype(np.float32),
            mask=rng.integers(0, 8, (5, 7)).astype(np.int32),
            variance=np.full((5, 7), 9, np.float32),
            gain=1.5,
            read_noise=5.25,
            saturation=6e4,
            wcs=dict(WCS),
            psf=rng.random((5, 5)).astype(np.float32),
            unit="nJy",
            zero_point=31.4,
        )
    )


def message(**changes) -> list:
    """An encoded frame with header keys changed (None removes a plane key's value, `...` the key)."""
    parts = wire.encode(full_frame())
    header = json.loads(parts[1])
    for key, value in changes.items():
        if value is ...:
            del header[key]
        else:
            header[key] = value
    return [parts[0], json.dumps(header).encode(), *parts[2:]]


def with_plane(number: int = 0, **changes) -> list:
    """An encoded frame with one plane's description changed."""
    planes = json.loads(wire.encode(full_frame())[1])["planes"]
    planes[number].update(changes)
    return message(planes=planes)


def test_a_frame_comes_through_with_its_digest():
    frame = full_frame()
    assert wire.decode(wire.encode(frame), LIMIT).digest == frame.digest


def test_the_pixels_of_a_message_are_summed_once(monkeypatch):
    parts, summed, of = wire.encode(full_frame()), [], xxhash.xxh3_128_hexdigest
    monkeypatch.setattr(xxhash, "xxh3_128_hexdigest", lambda part: summed.append(len(part)) or of(part))
    came = wire.decode(parts, LIMIT)
    assert sorted(summed) == sorted([*map(len, parts[2:]), came.psf.nbytes])


def test_a_checksum_in_capitals_gives_the_same_digest():
    planes = json.loads(wire.encode(full_frame())[1])["planes"]
    capitals = [plane | {"xxh3_128": plane["xxh3_128"].upper()} for plane in planes]
    assert wire.decode(message(planes=capitals), LIMIT).digest == full_frame().digest


def test_all_that_a_frame_says_comes_through():
    frame, came = full_frame(), wire.decode(wire.encode(full_frame()), LIMIT)
    for field in dataclasses.fields(Frame):
        if field.name != "name":
            np.testing.assert_array_equal(getattr(came, field.name), getattr(frame, field.name))


def test_what_nobody_knows_stays_unknown():
    frame = Frame("x", Observation(FrameId(1, 0, 2)), np.zeros((2, 2), np.uint16))
    came = wire.decode(wire.encode(frame), LIMIT)
    assert (came.gain, came.wcs, came.psf, came.observation.band) == (None, {}, None, "")
    assert np.isnan(came.observation.exposure_s)


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", ">f4"])
def test_pixels_of_any_byte_order_arrive_equal(dtype):
    image = np.arange(6, dtype=dtype).reshape(2, 3)
    came = wire.decode(wire.encode(Frame("x", Observation(FrameId(1, 0, 2)), image)), LIMIT)
    np.testing.assert_array_equal(came.image, image)


def test_a_frame_from_fits_and_the_same_over_the_wire_have_one_digest(tmp_path):
    write_frame(tmp_path / "frame.fits", full_frame())
    read = read_frame(tmp_path / "frame.fits")
    assert read.digest == wire.decode(wire.encode(read), LIMIT).digest == full_frame().digest


@pytest.mark.real_data
def test_a_real_frame_keeps_its_digest_over_the_wire(real_data):
    read = read_frame(real_data / "decam_pair" / "input_data__DEC-OBS04a.mini.fits")
    assert wire.decode(wire.encode(read), LIMIT).digest == read.digest


def test_decoded_pixels_are_not_copies_of_the_message():
    parts = [memoryview(bytes(part)) for part in wire.encode(full_frame())]
    image = wire.decode(parts, LIMIT).image
    assert np.shares_memory(image, np.frombuffer(parts[2], np.uint8))


def test_unknown_keys_are_ignored():
    assert wire.decode(message(observer="Leavitt"), LIMIT).digest == full_frame().digest


def test_whole_numbers_are_numbers():
    assert wire.decode(message(gain=2), LIMIT).gain == 2.0


def test_a_psf_grid_comes_through():
    psf = np.random.default_rng(2).random((4, 3, 3)).astype(np.float32)
    came = wire.decode(wire.encode(dataclasses.replace(full_frame(), psf=psf)), LIMIT)
    np.testing.assert_array_equal(came.psf, psf)


REQUIRED = ["visit", "snap", "detector", "band", "mjd_start_tai", "mjd_end_tai", "exposure_s"]
REQUIRED += ["gain", "read_noise", "saturation", "wcs", "planes"]
KNOWN = {"visit", "snap", "detector", "planes"}


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_required_key_is_named(key):
    with pytest.raises(MissingKey, match=key) as raised:
        wire.decode(message(**{key: ...}), LIMIT)
    assert ("null says that a value is unknown" in str(raised.value)) == (key not in KNOWN)


@pytest.mark.parametrize("key", ["boresight_ra", "psf", "unit", "zero_point", "sent_tai", "attempt"])
def test_an_optional_key_may_be_absent_or_null(key):
    frames = [wire.decode(message(**{key: value}), LIMIT) for value in (..., None)]
    assert [frame.observation.frame for frame in frames] == [FrameId(7, 1, 42)] * 2
    assert frames[0].unit == frames[1].unit


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"visit": -1}, "visit.* = -1"),
        ({"visit": 1 << 39}, "visit"),
        ({"visit": None}, "visit"),
        ({"snap": "0"}, "snap"),
        ({"detector": 256}, "detector"),
        ({"gain": "high"}, "gain.* = 'high'"),
        ({"wcs": [1]}, "wcs"),
        ({"planes": []}, "planes"),
        ({"planes": [{"name": 5}]}, "planes.* = 5"),
        ({"attempt": 0}, "attempt"),
    ],
)
def test_a_value_that_cannot_be_is_named_and_shown(changes, said):
    with pytest.raises(BadMessage, match=said):
        wire.decode(message(**changes), LIMIT)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "<f8"}, "dtype is '<f8'"),
        ({"dtype": "O"}, "dtype is 'O'"),
        ({"shape": [7, 5, 1]}, "shape"),
        ({"shape": [-5, -7]}, r"shape is \(-5, -7\), expected at least 1 of each"),
        ({"shape": [5, 8]}, "shape"),
        ({"bytes": 141}, "141 by its header"),
        ({"name": "weight"}, "weight"),
        ({"name": "mask"}, "once each"),
        ({"shm": {"segment": "x", "offset": 0, "sequence": 1}}, "planes to come"),
    ],
)
def test_a_plane_that_breaks_the_contract_is_named(changes, said):
    with pytest.raises(BadMessage, match=said):
        wire.decode(with_plane(**changes), LIMIT)


def test_a_damaged_plane_is_a_checksum_mismatch():
    parts = message()
    parts[2] = bytes(len(parts[2]))
    with pytest.raises(ChecksumMismatch, match='plane "image"'):
        wire.decode(parts, LIMIT)


def test_what_is_no_checksum_is_a_fault_of_the_message_that_no_other_attempt_cures():
    with pytest.raises(BadMessage, match="32 hex digits"):
        wire.decode(with_plane(xxh3_128="0" * 31), LIMIT)


def test_checksums_may_be_upper_case():
    checksum = json.loads(message()[1])["planes"][0]["xxh3_128"].upper()
    assert wire.decode(with_plane(xxh3_128=checksum), LIMIT).digest == full_frame().digest


def test_a_plane_of_the_wrong_size_is_refused_before_its_checksum():
    parts = message()
    parts[2] = bytes(parts[2])[:-4]
    with pytest.raises(BadMessage, match="136 came"):
        wire.decode(parts, LIMIT)


def test_more_bytes_than_the_limit_are_refused():
    with pytest.raises(BadMessage, match="at most 100 bytes"):
        wire.decode(message(), 100)


def test_a_wrong_magic_is_refused():
    with pytest.raises(BadMessage, match="GDF1"):
        wire.decode([b"GDF2", *message()[1:]], LIMIT)


@pytest.mark.parametrize("parts", [[], [b"GDF1"], [b"GDF1", b"{}"], [b"GDF1", b"{}", *[b""] * 4]])
def test_a_wrong_number_of_parts_is_refused(parts):
    with pytest.raises(BadMessage):
        wire.decode(parts, LIMIT)


@pytest.mark.parametrize("header", [b"", b"{", b"null", b"[1]", b"\xff\xfe", b'{"a":' * 100_000, b"NaN"])
def test_a_header_that_is_no_json_object_is_refused(header):
    with pytest.raises(BadMessage):
        wire.decode([b"GDF1", header, b"12"], LIMIT)


def test_of_the_wcs_only_keywords_of_one_with_a_value_are_kept():
    frame = wire.decode(message(wcs={**WCS, "LONPOLE": None, "NAXIS1": 4096, "SIMPLE": False, "no key": 1}), LIMIT)
    assert frame.wcs == WCS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, 1e300) for key in ("mjd_start_tai", "mjd_end_tai", "readout_end_tai", "sent_tai", "exposure_s")],
        *[("exposure_s", -1), ("zero_point", 99), ("zero_point", -1e308)],
        *[("unit", "\n"), ("unit", "µJy"), ("unit", "x" * 256), ("band", "\0"), ("band", "r" * 69)],
    ],
)
def test_a_value_that_no_alert_could_hold_is_refused(key, value):
    with pytest.raises(BadMessage, match=f"\\$.{key}"):
        wire.decode(message(**{key: value}), LIMIT)


def test_an_exposure_that_ends_before_it_starts_is_refused():
    with pytest.raises(BadMessage, match=r"mjd_end_tai = 60000\.0 is before mjd_start_tai = 60000\.5"):
        wire.decode(message(mjd_start_tai=60000.5, mjd_end_tai=60000), LIMIT)


def test_a_psf_that_is_too_large_is_refused_with_the_limit():
    with pytest.raises(BadPsf, match=r"psf is \(513, 513\), expected .* at most 512"):
        wire.decode(message(psf=[[1.0] * 513] * 513), LIMIT)


@pytest.mark.parametrize("psf", [5, [[1, 2]], [[1, 2], [3]], [["a"]], [], {"a": 1}, [[None]]])
def test_a_psf_that_is_none_is_refused(psf):
    with pytest.raises(BadPsf):
        wire.decode(message(psf=psf), LIMIT)


@pytest.mark.parametrize("header", [b'{"visit": "x", broken', b'{"visit": "x", "visit": 1, "a": ' + b"9" * 9999])
def test_a_wrong_type_in_a_broken_header_is_refused_too(header):
    with pytest.raises(BadMessage, match="Expected `int`, got `str`"):
        wire.decode([b"GDF1", header, b""], LIMIT)


def test_identity_is_read_from_a_header_that_lacks_the_rest():
    found = wire_header.identity([b"GDF1", b'{"visit": 7, "snap": 0, "detector": 300, "attempt": 2}'])
    assert (found.visit, found.snap, found.detector, found.attempt) == (7, 0, None, 2)


@pytest.mark.parametrize(
    "other", [b'"gain": 1e400', b'"wcs": {"CRVAL1": -1e999}', b'"read_noise": ' + b"9" * 9999]
)
def test_identity_is_read_beside_a_number_that_no_double_holds(other):
    found = wire_header.identity(
        [b"GDF1", b'{"visit": 7, "snap": 0, "detector": 3, "attempt": 2, ' + other + b"}"]
    )
    assert (found.visit, found.snap, found.detector, found.attempt) == (7, 0, 3, 2)


@pytest.mark.parametrize(("said", "attempt"), [(b"", 1), (b', "attempt": null', 1), (b', "attempt": 0', None)])
def test_an_attempt_that_a_header_does_not_say_is_the_first(said, attempt):
    assert wire_header.identity([b"GDF1", b'{"visit": 7' + said + b"}"]).attempt == attempt


def test_an_image_that_the_wire_cannot_carry_is_refused_at_the_sender():
    with pytest.raises(BadMessage, match="float64"):
        wire.encode(Frame("x", Observation(FrameId(1, 0, 2)), np.zeros((2, 2))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(key=st.sampled_from([*REQUIRED, "psf", "attempt", "unit"]), value=JSON)
def test_whatever_a_key_holds_the_answer_is_a_frame_or_a_refusal(key, value):
    with contextlib.suppress(InputRejected):
        assert isinstance(wire.decode(message(**{key: value}), LIMIT), Frame)


@settings(max_examples=150)
@given(changes=st.dictionaries(st.sampled_from(["name", "dtype", "shape", "bytes", "xxh3_128", "shm"]), JSON))
def test_whatever_a_plane_says_the_answer_is_a_frame_or_a_refusal(changes):
    with contextlib.suppress(InputRejected):
        assert isinstance(wire.decode(with_plane(**changes), LIMIT), Frame)


@settings(max_examples=100)
@given(parts=st.lists(st.binary(max_size=40) | st.just(b"GDF1"), max_size=6))
def test_whatever_the_parts_are_the_answer_is_a_refusal(parts):
    with pytest.raises(InputRejected):
        wire.decode(parts, LIMIT)


def test_the_checksum_is_xxh3_of_the_parts_bytes():
    parts = wire.encode(full_frame())
    checksums = [plane["xxh3_128"] for plane in json.loads(parts[1])["planes"]]
    assert checksums == [xxhash.xxh3_128_hexdigest(part) for part in parts[2:]]

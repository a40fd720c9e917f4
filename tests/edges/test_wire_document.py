"""gpudiff/edges/WIRE.md: what it says is what the service does."""

import json
import re
from importlib.resources import files

import numpy as np
import xxhash
from serving import a_frame

from gpudiff.edges import next_visit, wire
from gpudiff.edges.ring import Place, RingFolder
from gpudiff.model import clock, errors
from gpudiff.model.mask import BITS

TEXT = (files("gpudiff") / "edges" / "WIRE.md").read_text()


def code(language: str) -> str:
    """The one block of code in a language."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return block


def test_the_frame_shown_byte_by_byte_is_a_frame():
    pixels = bytes.fromhex("64 00 65 00 66 00 ff ff")
    frame = wire.decode([b"GDF1", code("json").strip().encode(), pixels], 8)
    np.testing.assert_array_equal(frame.image, [[100, 101], [102, 65535]])


def test_the_lengths_shown_are_those_of_the_parts():
    length = len(code("json").strip())
    assert f"part 1, {length} bytes" in TEXT
    assert f"`03 {' '.join(f'{byte:02x}' for byte in length.to_bytes(8, 'big'))}` before part 1" in TEXT


def test_every_key_of_the_header_is_in_the_tables():
    keys = [*wire.Header.__struct_fields__, *wire.PlaneHeader.__struct_fields__]
    assert [key for key in keys if f"`{key}`" not in TEXT] == []


def test_every_key_of_an_announcement_is_told_and_those_required_are_called_so():
    told = TEXT.split("## Next visits")[1]
    rows = {
        key: text
        for keys, text in re.findall(r"^\| (`.*?) \| (.*) \|$", told, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", keys)
    }
    assert rows.keys() >= set(next_visit.Message.__struct_fields__)
    assert {key for key, text in rows.items() if "required" in text} == set(next_visit.REQUIRED)


def test_required_keys_are_those_the_table_calls_required():
    rows = re.findall(r"^\| (`.*?) \| \S+ \| (yes|no)", TEXT, re.MULTILINE)
    said = {key: answer == "yes" for keys, answer in rows for key in re.findall(r"`(\w+)`", keys)}
    optional = set(wire.Header.__struct_fields__[-len(wire.Header.__struct_defaults__) :])
    assert said == {key: key not in optional for key in wire.Header.__struct_fields__}


def test_every_mask_bit_is_named_with_its_number():
    assert [name for name, bit in BITS.items() if f"{name} {bit}" not in " ".join(TEXT.split())] == []


def test_the_time_shown_is_the_clocks():
    assert f"{clock.UNIX_EPOCH_MJD:g} + (t + {clock.TAI_MINUS_UTC_S:g}) / 86400" in TEXT


def test_every_error_that_is_named_exists():
    names = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", TEXT))
    assert {"MissingKey", "NoCredit", "BadWcs"} < names
    assert names <= vars(errors).keys()


def test_the_client_in_the_document_sends_a_frame(service):
    names: dict = {}
    exec(code("python"), names)
    parts = wire.encode(a_frame(5))
    header = json.loads(parts[1])
    planes = [
        (p["name"], p["dtype"], p["shape"], bytes(b)) for p, b in zip(header["planes"], parts[2:], strict=True)
    ]
    del header["planes"]
    receipts = [names["send"](service.endpoint, header, planes) for _ in range(2)]
    assert [receipt["status"] for receipt in receipts] == ["done", "duplicate"]
    assert receipts[0]["sources"] == 2


def test_the_shared_memory_of_the_document_is_read(tmp_path):
    folder = RingFolder(tmp_path)
    names: dict = {}
    exec(code("py"), names)
    pixels = bytes(range(256))
    place = Place(**names["put"](folder.offer, "me.ring", pixels, sequence=7))
    assert folder.segments.pixels(place, 256, xxhash.xxh3_128_hexdigest(pixels)) == pixels
    folder.sweep(set())
    assert (folder.path / "me.ring").exists()
    names["LOCKS"].pop().close()
    folder.close()


def test_the_client_in_the_document_hears_of_a_rejection(service):
    names: dict = {}
    exec(code("python"), names)
    receipt = names["send"](service.endpoint, {"visit": 1, "snap": 0, "detector": 2}, [])
    assert (receipt["status"], receipt["error"], receipt["visit"]) == ("rejected", "MissingKey", 1)

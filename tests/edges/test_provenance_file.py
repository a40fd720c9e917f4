"""gpudiff.edges.provenance_file: the steps behind fingerprints, one JSON object a line."""

import json

from gpudiff.edges.provenance_file import keep_steps, stored_steps
from gpudiff.model.provenance import extend

STEP = {"step": "calibrate", "version": "1", "configuration": "", "inputs": ["ab"]}
FINGERPRINT = extend("", [STEP])


def test_each_line_is_an_object_and_there_are_no_others(tmp_path):
    for _ in range(2):
        keep_steps(tmp_path, 7, FINGERPRINT, [STEP])
    lines = (tmp_path / "7.provenance.jsonl").read_text().splitlines()
    assert [json.loads(line)["fingerprint"] for line in lines] == [FINGERPRINT] * 2


def test_what_follows_a_torn_line_is_whole(tmp_path):
    (tmp_path / "7.provenance.jsonl").write_text('{"fingerprint": "torn')
    keep_steps(tmp_path, 7, FINGERPRINT, [STEP])
    assert stored_steps(tmp_path, FINGERPRINT)[0]["step"] == "calibrate"

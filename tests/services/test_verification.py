"""A fingerprint derived again, against files given beside it."""

import dataclasses

import pytest
from batches import a_batch, taken

from gpudiff.edges.provenance_file import keep_steps
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.provenance import extend, step
from gpudiff.services.verification import Given, alert_fingerprint, verify

ID = 7 << 24 | 4 << 16
STEPS = (step("calibrate", "1", "c1", ["f1"]), step("difference", "1", "c2", ["t1"]))


@pytest.fixture
def archive(tmp_path):
    return taken(tmp_path, dataclasses.replace(a_batch(1), steps=STEPS, fingerprint=extend("", STEPS)))


def test_a_filters_step_is_verified_after_the_alerts(archive, tmp_path):
    own = step("filter bright", "1", "c", [])
    before = alert_fingerprint(archive, ID)
    after = extend(before, [own])
    keep_steps(tmp_path, 7, after, [own], before)
    verdict = verify(archive, after, [tmp_path / "7.provenance.jsonl"])
    assert (verdict.broken, verdict.wrong) == (None, ())
    assert [one["step"] for one in verdict.steps] == [
        "calibrate",
        "difference",
        "associate",
        "encode",
        "filter bright",
    ]


def test_another_configuration_is_named_by_its_first_step(archive, tmp_path):
    (tmp_path / "c.toml").write_text("[detect]\nthreshold = 7.0\n")
    verdict = verify(archive, alert_fingerprint(archive, ID), given=Given(config=tmp_path / "c.toml"))
    assert verdict.broken is None
    assert verdict.wrong[0].startswith("calibrate: configuration c1")


def test_steps_that_nobody_kept_are_refused(archive):
    with pytest.raises(UnreadableFile, match="nobody kept them"):
        verify(archive, "cd" * 16)

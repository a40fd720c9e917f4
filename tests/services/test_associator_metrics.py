"""gpudiff.services.associator_metrics: what the associator counts."""

import pytest
from batches import a_batch

from gpudiff.model.association import KINDS
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator

NOW = 61007.001


@pytest.fixture
def registry(tmp_path):
    """Of an associator that was given a batch of three, a repeat of it, and nonsense."""
    from gpudiff.edges.detections import encode

    associator = Associator(tmp_path, Configuration(), clock=lambda: NOW)
    for parts in (encode(a_batch(3)), encode(a_batch(3)), [b"nonsense"]):
        associator.answer(parts)
    associator.close()
    return associator.metrics.registry


def test_batches_are_counted_by_answer_and_error(registry):
    for status in ("committed", "duplicate", "failed"):
        assert registry.get_sample_value("gpudiff_batches_total", {"status": status}) == 1
    assert registry.get_sample_value("gpudiff_batch_errors_total", {"error": "BadMessage"}) == 1


def test_sources_are_counted_by_kind(registry):
    counted = {kind: registry.get_sample_value("gpudiff_sources_total", {"kind": kind}) for kind in KINDS}
    assert counted == {"known": 0, "tonight": 0, "moving": 0, "new": 3}


def test_latency_counts_from_the_end_of_readout_of_each_alert_once(registry):
    assert registry.get_sample_value("gpudiff_alert_latency_seconds_count") == 3
    assert registry.get_sample_value("gpudiff_alert_latency_seconds_sum") == pytest.approx(
        3 * (NOW - 61007.0002) * 86400,
        rel=1e-4,  # an MJD as float64 is good to a microsecond of 70 s
    )


@pytest.mark.parametrize("stage", ["associate", "encode", "archive", "store"])
def test_every_stage_of_a_batch_is_timed(registry, stage):
    assert registry.get_sample_value("gpudiff_associator_stage_seconds_count", {"stage": stage}) == 1


def test_every_transaction_is_timed(registry):
    assert registry.get_sample_value("gpudiff_associator_stage_seconds_count", {"stage": "commit"}) >= 1

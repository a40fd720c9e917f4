"""gpudiff.services.metrics: what the service counts."""

import json
import urllib.request

import pytest
from serving import TIMEOUT_S

from gpudiff.edges.control import Receipt
from gpudiff.model.errors import StoreFailed
from gpudiff.services.metrics import Metrics

DONE = Receipt(7, 0, 4, 1, "done", sources=5, alerts=3, latency_s=0.5)
REJECTED = Receipt(8, 0, 4, 1, "rejected", error="NoStars", reason="few")


@pytest.fixture
def metrics():
    metrics = Metrics("tcp://127.0.0.1:7")
    yield metrics
    metrics.close()


def written(metrics: Metrics, file) -> dict:
    """What status.json says."""
    metrics.write(file, in_flight=2, queued=1, workers=[11], state="running")
    return json.loads(file.read_text())


def test_status_counts_receipts_and_what_they_carry(metrics, tmp_path):
    for receipt in (DONE, DONE, REJECTED):
        metrics.count(receipt)
    status = written(metrics, tmp_path / "status.json")
    assert (status["done"], status["rejected"], status["alerts"]) == (2, {"NoStars": 1}, 6)
    assert (status["in_flight"], status["queued"], status["workers"]) == (2, 1, [11])


def test_status_is_not_written_again_when_nothing_changed(metrics, tmp_path):
    written(metrics, tmp_path / "status.json")
    (tmp_path / "status.json").write_text("{}")
    assert written(metrics, tmp_path / "status.json") == {}
    metrics.dead_letters.inc()
    assert written(metrics, tmp_path / "status.json")["dead_letters"] == 1


def test_a_status_that_cannot_be_written_is_a_failed_store(metrics, tmp_path):
    with pytest.raises(StoreFailed):
        written(metrics, tmp_path / "absent" / "status.json")


def test_prometheus_reads_the_counters_under_stable_names(metrics):
    port = metrics.serve("0", lambda: "", lambda: "no worker")
    metrics.count(DONE)
    metrics.count(REJECTED)
    metrics.stages({"difference": 0.2})
    metrics.dead_letters.inc()
    metrics.worker_restarts.inc()
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S).read().decode()
    assert 'gpudiff_frames_total{status="done"} 1.0' in text
    assert 'gpudiff_rejections_total{error="NoStars"} 1.0' in text
    assert "gpudiff_dead_letters_total 1.0" in text
    assert "gpudiff_worker_restarts_total 1.0" in text
    assert "gpudiff_frame_latency_seconds_sum 0.5" in text
    assert 'gpudiff_stage_seconds_count{stage="difference"} 1.0' in text


def test_frames_to_be_sent_again_are_counted_by_error_and_leases_that_ended(metrics):
    for error in ("ChecksumMismatch", "NoCredit", "NoCredit"):
        metrics.count(Receipt(8, 0, 4, 1, "failed", error=error, reason="", retry=True))
    metrics.overdue.inc(2)
    value = metrics.registry.get_sample_value
    assert value("gpudiff_failures_total", {"error": "NoCredit"}) == 2
    assert value("gpudiff_failures_total", {"error": "ChecksumMismatch"}) == 1
    assert value("gpudiff_leases_expired_total") == 2


def test_queue_and_credit_are_shown_and_written(metrics, tmp_path):
    more = {"at_a_time": 6, "away": 3, "clients": 2, "free": 5, "bytes": 100, "room": 400, "associators": {}}
    metrics.write(tmp_path / "status.json", 4, 3, [11], "running", more)
    names = ("frames_at_a_time", "frames_away", "clients", "credits", "bytes_in_hand", "bytes_room")
    assert [metrics.registry.get_sample_value(f"gpudiff_{name}") for name in names] == [6, 3, 2, 5, 100, 400]
    assert json.loads((tmp_path / "status.json").read_text()).items() >= more.items()

import dataclasses

import numpy as np
import pytest

from gpudiff.model.demo import Demo, FrameRecord, latency, summary
from gpudiff.model.recovery import PUBLISHED
from gpudiff.model.scene import TRUTH, Night, grid
from gpudiff.model.tables import Table
from gpudiff.science.night import visits
from gpudiff.science.recovery import recover

NIGHT = Night(visits=1)


def demo(changes=4, seen=4, frame=None, **values):
    columns = {c.name: np.zeros(changes, c.dtype) for c in TRUTH}
    columns |= {
        "x": 20.0 * np.arange(changes),
        "snr": np.full(changes, 9.0),
        "kind": np.full(changes, "transient"),
    }
    columns["visit"] = np.ones(changes)
    alerts = {c.name: np.zeros(seen, c.dtype) for c in PUBLISHED}
    alerts |= {"x": 20.0 * np.arange(seen), "visit": np.ones(seen), "latency_s": np.arange(seen)}
    recovery = recover(Table(TRUTH, columns), Table(PUBLISHED, alerts))
    frames = (frame or FrameRecord(1, 0, "done", seen, seen, 1.0),)
    full = {
        "cutouts": [(None,) * 3] * seen,
        "seconds": {"frames": 1.0},
        "service_status": 0,
        "stored": seen,
        **values,
    }
    return Demo(NIGHT, grid(1, 256), tuple(visits(NIGHT)), frames, recovery, **full)


def test_a_demo_that_found_everything_has_no_problems():
    assert demo().problems == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"seen": 2}, "only 50% of the detectable changes were found"),
        ({"frame": FrameRecord(1, 0, "rejected", 0, 4, 1.0, "NoStars")}, "1 of 1 frames were not taken: NoStars"),
        ({"frame": FrameRecord(1, 0, "done", 4, 5, 1.0)}, "receipts promise 5 alerts, the archive holds 4"),
        ({"service_status": -9}, "the service stopped with exit status -9"),
        ({"stored": 3}, "the ledger holds 3 DIASources, the archive 4 alerts"),
        ({"changes": 0, "seen": 0}, "no detectable change"),
    ],
)
def test_what_went_wrong_is_named(values, problem):
    (only,) = demo(**values).problems
    assert only.startswith(problem)


def test_the_same_reason_is_named_once():
    many = tuple(
        FrameRecord(1, n, "rejected", 0, 0, 1.0, f"NoStars frame 1/0/{n}: expected 5 stars, got 2")
        for n in range(9)
    )
    said = dataclasses.replace(demo(changes=0, seen=0), frames=many).problems[0]
    assert said.endswith("frames were not taken: NoStars expected 5 stars, got 2 (9 times)")


def test_a_frame_without_a_receipt_is_a_problem():
    assert "no receipt" in dataclasses.replace(demo(), frames=()).problems[0]


def test_the_latency_is_median_percentile_and_maximum():
    assert latency(np.arange(101.0)) == (50, 98, 100)
    assert latency(np.array([1.0, np.nan])) == (1, 1, 1)
    assert np.isnan(latency(np.array([]))).all()


def test_the_summary_counts_add_up():
    rows = {what: value for what, value, _ in summary(demo(changes=5, seen=4))}
    assert (rows["injected"], rows["detectable"], rows["missed"]) == ("5", "5", "1")
    assert rows["found"] == "4 (80.0%)"
    assert rows["latency, max"] == "3.00 s"

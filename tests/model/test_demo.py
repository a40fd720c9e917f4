import dataclasses

import numpy as np
import pytest

from gpudiff.model.demo import Demo, FilterRecord, FrameRecord, Replayed, Review, Verified, latency, summary
from gpudiff.model.recovery import PUBLISHED
from gpudiff.model.scene import TRUTH, Night, grid
from gpudiff.model.tables import Table
from gpudiff.science.night import visits
from gpudiff.science.recovery import recover

NIGHT = Night(visits=1)
FILTER = FilterRecord("bright", "a@b.c", "snr > 9", 2, matches=5, sent=2, over_quota=3, off="", passed=(1, 2))
VERIFIED = Verified(7, "ab" * 16, ({},) * 7, ("template",), ())
REPLAYED = Replayed(archived=4, delivered=4, refused=0, missing=0, unexpected=0, seconds=1.0)
REVIEW = Review((FILTER,), VERIFIED, REPLAYED)


def review(**changed):
    """REVIEW with fields of its parts changed"""
    off, wrong = changed.pop("off", ""), changed.pop("wrong", ())
    return Review(
        (dataclasses.replace(FILTER, off=off),),
        dataclasses.replace(VERIFIED, wrong=wrong),
        dataclasses.replace(REPLAYED, **changed),
    )


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
        "review": REVIEW,
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
        ({"review": review(off="too slow")}, "filter bright was switched off: too slow"),
        ({"review": review(wrong=("detect: differs",))}, "alert 7: detect: differs"),
        ({"review": review(missing=1)}, "of 4 archived alerts the replay delivered 4, 1 are missing"),
        ({"review": review(unexpected=1)}, "of 4 archived alerts the replay delivered 4"),
        ({"review": review(delivered=3, refused=1)}, "of 4 archived alerts the replay delivered 3"),
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


def test_the_summary_tells_of_filters_fingerprint_and_replay():
    rows = {what: (value, meaning) for what, value, meaning in summary(demo())}
    assert rows["filters"] == ("1", "sent 2 of 5 matches")
    assert rows["at their quota"] == ("1", "bright")
    assert rows["fingerprint"] == ("verified", "7 steps, from the frame to a filter")
    assert rows["replayed"][0] == "4"
    nothing = demo(review=dataclasses.replace(REVIEW, filters=(), verified=None))
    rows = {what: value for what, value, _ in summary(nothing)}
    assert (rows["at their quota"], rows["fingerprint"]) == ("0", "nothing to verify")

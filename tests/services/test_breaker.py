"""gpudiff.services.breaker: far more detections than a detector usually has."""

from gpudiff.services.breaker import Breaker


def usual(count: int = 100) -> Breaker:
    breaker = Breaker(5.0, 5000)
    for _ in range(10):
        assert breaker.judge(4, count) == ""
        breaker.note(4, count)
    return breaker


def test_many_times_the_median_is_suspect():
    assert "501 detections, 100 in the median" in usual().judge(4, 501)
    assert usual().judge(4, 500) == ""


def test_the_median_is_the_detectors_own():
    assert usual().judge(5, 501) == ""


def test_a_burst_does_not_raise_the_median():
    breaker = usual()
    assert all(breaker.judge(4, 1000) for _ in range(100))


def test_more_than_the_largest_number_is_suspect_at_once():
    assert "at most 5000" in Breaker(5.0, 5000).judge(4, 5001)


def test_few_detections_are_never_suspect():
    assert usual(1).judge(4, 100) == ""

"""Batches on three streams: whatever the order that the streams allow, the results are those of the detectors."""

import sys

import numpy as np
import pytest
from fake_cupy import DEFAULT, fake_cupy, get_current_stream
from streamed import Streamed

from gpudiff.model.errors import DeviceFull

KINDS = [((2, 3), np.float32), ((4,), np.int32)]
RESULTS = [((2, 3), np.float32)]


def doubled(launcher):
    """2 x the first plane plus the second's sum, by a kernel."""

    def compute(planes):
        out = np.full(planes[0].shape, 99, np.float32)
        launcher.launch(lambda: np.copyto(out, 2 * planes[0] + planes[1].sum(1)[:, None, None]))
        return [out]

    return compute


def detectors(count):
    return [(np.full((2, 3), n, np.float32), np.arange(n, n + 4, dtype=np.int32)) for n in range(count)]


def expected(count):
    return [2.0 * n + 4 * n + 6 for n in range(count)]


@pytest.fixture(scope="module")
def ring(bench):
    """The class under test."""
    return bench("_gpu_rafts").Rafts


@pytest.fixture(scope="module")
def run(ring):
    def run(launcher, count, **options):
        rafts = ring(launcher, KINDS, RESULTS, doubled(launcher), **options)
        return [float(one[0, 0]) for (one,) in rafts.run(detectors(count))], rafts

    return run


@pytest.mark.parametrize("count", [0, 1, 8, 9, 27, 30, 189])
def test_each_detector_gets_its_own_result(run, count):
    assert run(Streamed(seed=count), count)[0] == expected(count)


@pytest.mark.parametrize("seed", range(40))
def test_in_any_order_that_the_streams_allow(run, seed):
    size, ring = 1 + seed % 4, 2 + seed % 3
    assert run(Streamed(seed), 23, size=size, ring=ring)[0] == expected(23)


@pytest.mark.parametrize("ignored", ["wait", "synchronize"])
def test_without_its_waits_the_results_would_be_wrong(run, ignored):
    wrong = [run(Streamed(seed, ignored), 23, size=2)[0] != expected(23) for seed in range(10)]
    assert any(wrong)


def test_a_batch_is_sent_up_before_the_one_before_it_is_computed(ring):
    launcher, asked = Streamed(), []
    plain = doubled(launcher)

    def compute(planes):
        asked.append(("compute", launcher.sent))
        return plain(planes)

    list(ring(launcher, KINDS, RESULTS, compute, size=1).run(detectors(4)))
    assert asked == [("compute", 2 * min(n + 2, 4)) for n in range(4)]  # two kinds each, one batch ahead


@pytest.mark.parametrize("seed", range(5))
def test_planes_that_are_pinned_already_go_up_from_where_they_are(ring, seed):
    launcher = Streamed(seed)
    rafts = ring(launcher, KINDS, RESULTS, doubled(launcher), size=2, pinned=True)
    planes = detectors(7)
    sources = []
    send = launcher.send
    launcher.send = lambda here, there, stream: (sources.append(here), send(here, there, stream))
    assert [float(one[0, 0]) for (one,) in rafts.run(planes)] == expected(7)
    assert all(
        source is plane for source, plane in zip(sources, (p for both in planes for p in both), strict=True)
    )


def test_a_run_that_is_left_waits_for_the_copies_on_their_way(ring):
    launcher = Streamed()
    results = ring(launcher, KINDS, RESULTS, doubled(launcher), size=1).run(detectors(4))
    next(results)
    results.close()
    assert not any(launcher.queues)


def test_where_memory_is_short_batches_are_halved_and_a_note_says_so(run):
    results, rafts = run(Streamed(capacity=50), 20)  # three batches of 9 with two kinds each need 54
    assert results == expected(20)
    assert rafts.notes == ["GPU memory was short: batches of 4 detectors from here on"]


def test_results_that_were_given_are_not_given_again_after_memory_ran_out(ring):
    launcher = Streamed()
    calls = []
    plain = doubled(launcher)

    def compute(planes):
        calls.append(len(planes[0]))
        if len(calls) == 5:
            raise DeviceFull("not now")
        return plain(planes)

    rafts = ring(launcher, KINDS, RESULTS, compute, size=4)
    assert [float(one[0, 0]) for (one,) in rafts.run(detectors(30))] == expected(30)
    assert rafts.size == 2
    assert max(calls[5:]) == 2


def test_a_detector_that_has_no_room_alone_is_an_error(run):
    with pytest.raises(DeviceFull):
        run(Streamed(capacity=3), 2)


def test_through_cupy_it_is_the_same(ring, bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    launcher, seen = bench("_gpu_streams").CudaStreams(), []

    def compute(planes):
        seen.append(get_current_stream())
        out = launcher.empty(planes[0].shape, np.float32)
        out[:] = 2 * planes[0] + planes[1].sum(1)[:, None, None]
        return [out]

    results = ring(launcher, KINDS, RESULTS, compute, size=4).run(detectors(10))
    assert [float(one[0, 0]) for (one,) in results] == expected(10)
    assert launcher.used() == 2500
    launcher.finish()
    launcher.trim()
    assert len(seen) == 3
    assert len(set(seen) | {DEFAULT}) == 2  # one, and not the default

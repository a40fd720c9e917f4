"""Forced photometry in the service: from a table of positions to the batch, and put off while frames queue up."""

import dataclasses
import os
import signal

import msgspec
import numpy as np
import pytest
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, a_known_object, serving, settings_in, until
from small_pair import NEW, WCS, save_pair

from gpudiff.edges import wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.detections import Answer
from gpudiff.edges.fits import read_frame
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.frame import FrameId
from gpudiff.model.sky import Sky
from gpudiff.services.differencer import Differencer
from gpudiff.services.settings import SUBTRACT

BLANK = 44.3, 189.6
"""x, y of sky in the small pair."""


def real(tmp_path, associator, **service):
    """Settings of a service that subtracts the small pair's template; the science file."""
    science, template = save_pair(tmp_path)
    settings = settings_in(tmp_path, associator.endpoint, **service)
    for old in settings.templates.iterdir():
        old.unlink()
    template.rename(settings.templates / "template.fits")
    return dataclasses.replace(settings, process=SUBTRACT), science


def test_a_known_object_that_was_not_detected_gets_its_flux(tmp_path, associator):
    ra, dec = Sky(WCS).to_sky([BLANK[0], NEW[0]], [BLANK[1], NEW[1]])
    rows = "".join(f"{n},{a!r},{d!r}\n" for n, a, d in zip((11, 12), ra.tolist(), dec.tolist(), strict=True))
    (tmp_path / "known.csv").write_text("diaObjectId,ra,dec\n" + rows)
    settings, science = real(tmp_path, associator, forced_objects=str(tmp_path / "known.csv"))
    served = Served(settings)
    with FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(read_frame(science)).status == "done"
    until(lambda: served.status()["forced_sources"] == 1)
    served.stop()
    forced = associator.batches[FrameId(7, 0, 3)].forced
    assert forced["diaObjectId"].tolist() == [11]  # 12 is NEW, which was detected
    assert abs(forced["psfFlux"][0] / forced["psfFluxErr"][0]) < 5
    assert np.isfinite(forced["scienceFlux"][0])


def queue_up(served: Served, gate, visits: range) -> None:
    """Send a frame of each visit at once, so that they wait for each other; all must be done."""
    raw = Raw(served.endpoint)
    for visit in visits:
        raw.dealer.send(wire.encode(a_frame(visit, unit=f"hold:{gate}")))
    until(lambda: served.status()["in_flight"] == len(visits))
    gate.touch()
    assert {raw.receipt().status for _ in visits} == {"done"}
    raw.dealer.close()


def test_it_is_put_off_while_frames_queue_up_and_made_up_when_none_waits(tmp_path):
    associator = SmallAssociator()
    with serving(tmp_path, associator, forced_objects=a_known_object(tmp_path)) as served:
        queue_up(served, tmp_path / "gate", range(1, 5))
        until(lambda: served.status()["forced_sources"] == 4)
        said = served.status()
    # behind the second two wait for one worker, as three do behind the first if they came before it was ready
    assert said["forced_deferred"] == said["forced_made_up"] == len(associator.made_up) in (1, 2)
    assert (said["put_off"], said["forced_dropped"]) == (0, 0)
    assert not list(served.settings.put_off.iterdir())
    at_once = {frame: batch.forced for frame, batch in associator.batches.items() if len(batch.forced)}
    assert {*at_once, *associator.made_up} == {FrameId(visit, 0, 4) for visit in range(1, 5)}
    associator.close()


def put_off(tmp_path, **service) -> tuple[SmallAssociator, Served]:
    """A differencer that has ended while forced photometry was put off, and its associator, which is behind."""
    associator = SmallAssociator()
    associator.answer = lambda batch: msgspec.structs.replace(associator.commit(batch), load=1)
    associator.control = lambda parts: Answer(None, "done", load=1)
    with serving(tmp_path, associator, forced_objects=a_known_object(tmp_path), **service) as served:
        with FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client:
            assert [client.send(a_frame(visit)).status for visit in (1, 2, 3)] == ["done"] * 3
        until(lambda: served.status()["done"] == 3)
    associator.answer = associator.commit
    return associator, served


def test_what_was_put_off_is_made_up_by_the_next_differencer(tmp_path):
    associator, before = put_off(tmp_path)
    assert (before.status()["forced_deferred"], before.status()["put_off"]) == (2, 2)
    with serving(tmp_path, associator, forced_objects=a_known_object(tmp_path)) as served:
        until(lambda: served.status()["forced_made_up"] == 2)
        assert served.status()["put_off"] == 0
    assert sorted(frame.visit for frame in associator.made_up) == [2, 3]
    made = associator.made_up[FrameId(2, 0, 4)]
    assert made.fingerprint == associator.batches[made.frame].fingerprint
    assert made.forced["diaObjectId"].tolist() == [11]
    assert np.isfinite(made.forced["psfFlux"]).all()
    associator.close()


def test_what_the_disk_does_not_take_is_measured_at_once(tmp_path):
    associator = SmallAssociator()
    associator.answer = lambda batch: msgspec.structs.replace(associator.commit(batch), load=1)
    associator.control = lambda parts: Answer(None, "done", load=1)
    with serving(tmp_path, associator, forced_objects=a_known_object(tmp_path)) as served:
        served.settings.put_off.rmdir()  # no file goes below it
        with FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client:
            assert [client.send(a_frame(visit)).status for visit in (1, 2, 3)] == ["done"] * 3
        until(lambda: served.status()["forced_sources"] == 3)
        said = served.status()
    assert (said["forced_deferred"], said["forced_dropped"]) == (0, 0)
    assert all(len(batch.forced) for batch in associator.batches.values())
    associator.close()


def test_what_there_is_no_room_for_is_left_out_and_counted(tmp_path):
    associator, served = put_off(tmp_path, forced_room=1)
    said = served.status()
    assert (said["forced_deferred"], said["put_off"], said["forced_dropped"]) == (2, 1, 1)
    associator.close()


def test_what_the_associator_refuses_and_what_cannot_be_read_is_dropped_and_counted(tmp_path):
    associator, before = put_off(tmp_path)
    for path in sorted(before.settings.put_off.iterdir())[:1]:
        path.write_bytes(path.read_bytes()[:100])
    associator.later = lambda made: Answer(
        [made.frame.visit, 0, 4], "failed", error="BadMessage", reason="another revision"
    )
    with serving(tmp_path, associator, forced_objects=a_known_object(tmp_path)) as served:
        until(lambda: served.status()["forced_dropped"] == 2)
        assert served.status()["put_off"] == 0
    assert not list(served.settings.put_off.iterdir())
    associator.close()


def test_a_worker_that_dies_over_it_is_replaced_and_it_is_made_up(tmp_path):
    associator, _ = put_off(tmp_path)
    associator.later = lambda made: None  # holds the worker
    with serving(tmp_path, associator, forced_objects=a_known_object(tmp_path)) as served:
        until(lambda: served.status().get("busy") == 1)
        del associator.later
        os.kill(served.status()["workers"][0], signal.SIGKILL)
        until(lambda: served.status()["forced_made_up"] == 2)
        assert served.status()["worker_restarts"] == 1
    associator.close()


def test_positions_that_cannot_be_read_are_refused_at_the_start(tmp_path, associator):
    settings = settings_in(tmp_path, associator.endpoint, forced_objects=str(tmp_path / "absent.csv"))
    with pytest.raises(UnreadableFile, match=r"absent\.csv"):
        Differencer(settings)

"""gpudiff.services.preload: templates that are read before their frames come."""

import dataclasses
import time

import numpy as np
import pytest
from batches import WCS
from serving import TIMEOUT_S, SmallAssociator, a_frame, serving, settings_in, until

from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import write_frame
from gpudiff.edges.templates import TemplateStore
from gpudiff.model.clock import tai_now
from gpudiff.model.config import override
from gpudiff.model.next_visit import NextVisit
from gpudiff.model.schedule import Plan
from gpudiff.services.preload import Preloader
from gpudiff.services.schedule import Schedule

HERE = 150.0283, -30.0267
"""Middle of the frames that a_frame makes."""


def visit(number: int, **values) -> NextVisit:
    made = NextVisit(number, 1, "next", *HERE, start_tai=tai_now() + 0.01, band="r", duration_s=34.0)
    return dataclasses.replace(made, **values)


@pytest.fixture
def settings(tmp_path):
    """Templates: `template` here in r, `green` here in g, `near` 0.9 and `far` 60 degrees away in r."""
    made = settings_in(tmp_path, "ipc://unused")
    for name, band, dec in (("green", "g", -30.0), ("near", "r", -30.9), ("far", "r", 30.0)):
        frame = a_frame(0)
        observation = dataclasses.replace(frame.observation, band=band)
        wcs = {**WCS, "CRVAL2": dec}
        write_frame(made.templates / f"{name}.fits", dataclasses.replace(frame, observation=observation, wcs=wcs))
    telescope = override(made.configuration, "telescope", field_radius=0.1, altitude_low=-90.0, ahead_s=4.0)
    return dataclasses.replace(made, configuration=telescope)


def wanted(settings, *visits: NextVisit, last: NextVisit | None = None) -> list[str]:
    """Names of the templates that are wanted, each once, in order."""
    plan = Plan()
    for one in visits:
        plan, _ = plan.take(one, tai_now())
    found = Preloader(settings, Schedule()).wanted(TemplateStore(settings.templates), plan, last)
    return list(dict.fromkeys(entry.path.removesuffix(".fits") for entry in found))


def test_the_templates_of_a_visit_come_before_those_in_reach_after_it(settings):
    assert wanted(settings, visit(1)) == ["template", "near"]


def test_what_is_next_comes_first(settings):
    later = visit(1, horizon="hour", dec=30.0)
    assert wanted(settings, later, visit(2, band="g"))[:2] == ["green", "far"]


def test_what_is_in_reach_follows_the_last_visit_when_none_is_announced(settings):
    assert sorted(wanted(settings, last=visit(1))) == ["near", "template"]


def test_nothing_is_wanted_without_any_visit(settings):
    assert wanted(settings) == []


def test_each_detector_of_a_camera_gets_the_template_for_its_footprint(settings, tmp_path):
    plane = "detector,nx,ny,pix_mm,fpx_mm,fpy_mm,yaw_deg,gain_med,readnoise_med\n"
    plane += "4,128,128,0.01,0,0,0,1,5\n5,128,128,0.01,0,-162,0,1,5\n"
    (tmp_path / "camera.csv").write_text(plane)
    camera = override(settings.configuration, "telescope", focal_plane=str(tmp_path / "camera.csv"), ahead_s=0.0)
    settings = dataclasses.replace(settings, configuration=camera)
    assert wanted(settings, visit(1)) == ["template", "near"]
    assert wanted(settings, visit(1, detectors=(5,))) == ["near"]


def test_what_fails_once_is_tried_with_the_next_plan(settings, monkeypatch):
    schedule, fails, fill = Schedule(), [OSError("planted")], Preloader._fill

    def failing(*arguments):
        if fails:
            raise fails.pop()
        fill(*arguments)

    monkeypatch.setattr(Preloader, "_fill", failing)
    preloader = Preloader(settings, schedule)
    preloader.start()
    until(lambda: not fails)
    schedule.hear(visit(1))
    until(lambda: preloader.before(str(settings.templates / "template.fits"), time.monotonic()))
    preloader.close()


def test_a_template_is_read_when_its_visit_is_announced(settings):
    schedule = Schedule()
    preloader = Preloader(settings, schedule)
    template, far = (str(settings.templates / f"{name}.fits") for name in ("template", "far"))
    preloader.start()
    schedule.hear(visit(1))
    until(lambda: preloader.before(template, time.monotonic()))
    assert not preloader.before(template, 0.0)
    assert not preloader.before(far, time.monotonic())
    preloader.close()


def test_what_is_no_longer_wanted_goes_when_the_budget_is_full(settings):
    size = (settings.templates / "far.fits").stat().st_size
    small = override(settings.configuration, "telescope", warm_bytes=size, ahead_s=0.0)
    schedule = Schedule()
    preloader = Preloader(dataclasses.replace(settings, configuration=small), schedule)
    template, far = (str(settings.templates / f"{name}.fits") for name in ("template", "far"))
    preloader.start()
    schedule.hear(visit(1))
    until(lambda: preloader.before(template, time.monotonic()))
    schedule.hear(visit(1, revision=2, cancelled=True))
    schedule.hear(visit(2, dec=30.0))
    until(lambda: preloader.before(far, time.monotonic()))
    until(lambda: not preloader.before(template, time.monotonic()))
    preloader.close()


def test_a_schedule_that_changes_all_the_time_does_not_starve_the_reading(settings):
    schedule = Schedule()
    preloader = Preloader(settings, schedule)
    preloader.start()
    revision, near = 0, str(settings.templates / "near.fits")

    def changed_and_read() -> bool:
        nonlocal revision
        revision += 1
        schedule.hear(visit(1, revision=revision))
        return preloader.before(near, time.monotonic())

    until(changed_and_read)
    preloader.close()


def test_the_service_counts_templates_read_before_and_on_arrival(tmp_path):
    associator = SmallAssociator()
    with serving(tmp_path, associator) as served, FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(1)).status == "done"
        until(lambda: served.status()["template_loads"] == {"before": 0, "on_arrival": 1})
        schedule = served.differencer.reception.schedule
        schedule.hear(visit(2))
        template = str(served.settings.templates / "template.fits")
        until(lambda: served.differencer.preloader.before(template, time.monotonic()))
        assert client.send(a_frame(2)).status == "done"
        until(lambda: served.status()["template_loads"] == {"before": 1, "on_arrival": 1})
    associator.close()


def test_a_focal_plane_that_cannot_be_read_is_refused_at_the_start(settings):
    from gpudiff.model.errors import UnreadableFile

    camera = override(settings.configuration, "telescope", focal_plane="absent.csv")
    with pytest.raises(UnreadableFile):
        Preloader(dataclasses.replace(settings, configuration=camera), Schedule())
    assert np.isfinite(HERE).all()

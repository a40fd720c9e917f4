"""Forced photometry in the service: from a table of positions to the batch, and left out while frames queue up."""

import dataclasses

import numpy as np
import pytest
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, serving, settings_in, until
from small_pair import NEW, WCS, save_pair

from gpudiff.edges import wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import read_frame
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.frame import FrameId
from gpudiff.model.sky import Sky
from gpudiff.services.differencer import Differencer
from gpudiff.services.settings import SUBTRACT

BLANK = 44.3, 189.6
"""x, y of sky in the small pair."""


@pytest.fixture(scope="module")
def associator():
    associator = SmallAssociator()
    yield associator
    associator.close()


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


def test_it_is_left_out_and_counted_while_frames_queue_up(tmp_path, associator):
    with serving(tmp_path, associator) as served:
        raw, gate = Raw(served.endpoint), tmp_path / "gate"
        for visit in range(1, 5):
            raw.dealer.send(wire.encode(a_frame(visit, unit=f"hold:{gate}")))
        until(lambda: served.status()["in_flight"] == 4)
        gate.touch()
        assert {raw.receipt().status for _ in range(4)} == {"done"}
        until(lambda: served.status()["done"] == 4)
        # behind the second two wait for one worker, as three do behind the first if they came before it was ready
        assert served.status()["forced_deferred"] in (1, 2)
        raw.dealer.close()


def test_positions_that_cannot_be_read_are_refused_at_the_start(tmp_path, associator):
    settings = settings_in(tmp_path, associator.endpoint, forced_objects=str(tmp_path / "absent.csv"))
    with pytest.raises(UnreadableFile, match=r"absent\.csv"):
        Differencer(settings)

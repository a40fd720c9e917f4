"""Real frames through the differencer give what `subtract` gives."""

import numpy as np
import pytest
from serving import TIMEOUT_S, Served, SmallAssociator

from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import read_frame
from gpudiff.edges.reliability_model import model_named
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import FrameId
from gpudiff.science.reliability import rate
from gpudiff.science.subtract import subtract
from gpudiff.services.settings import Settings


@pytest.mark.real_data
def test_real_frames_sent_to_the_service_give_the_detections_of_subtract(real_data, tmp_path):
    pair = real_data / "decam_pair"
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "stack.fits").symlink_to(pair / "4check__Stack-DEC-OBS18.fits")
    template = read_frame(tmp_path / "templates" / "stack.fits")
    names = [f"input_data__DEC-OBS04{letter}.mini.fits" for letter in "ab"]
    frames = [read_frame(pair / name, visit=visit) for visit, name in enumerate(names, 1)]
    configuration = override(Configuration(), "service", workers=1)
    associator = SmallAssociator()
    local = "tcp://127.0.0.1:*"
    served = Served(Settings(tmp_path, tmp_path / "templates", local, associator.endpoint, configuration))
    with FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client:
        receipts = {receipt.visit: receipt for receipt in client.send_many(frames)}
    served.stop()
    associator.close()
    for visit, frame in enumerate(frames, 1):
        difference, sources = rate(*subtract(frame, template, configuration), model_named("default"))
        batch = associator.batches[FrameId(visit, 0, frame.observation.frame.detector)]
        assert receipts[visit].fingerprint == difference.fingerprint
        assert len(sources) > 0
        assert batch.quality["convolved"] == difference.quality.convolved
        for name, column in sources.columns.items():
            np.testing.assert_array_equal(batch.sources[name], column, err_msg=name)

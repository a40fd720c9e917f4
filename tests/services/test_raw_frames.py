"""gpudiff.services.raw_frames: a raw frame through a whole differencer."""

from serving import SHAPE, TIMEOUT_S, SmallAssociator, a_frame, serving

from gpudiff.edges.client import FrameClient

CALIBRATION = f"""
detector = 4
[[amplifiers]]
data = [0, {SHAPE[1]}, 0, {SHAPE[0]}]
level = 10.0
gain = 2.0
read_noise = 3.0
saturation = 60000.0
"""


def test_a_raw_frame_is_calibrated_and_one_without_calibration_refused_by_name(tmp_path):
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "calibrations" / "four.toml").write_text(CALIBRATION)
    associator = SmallAssociator()
    with (
        serving(tmp_path, associator, calibrations=str(tmp_path / "calibrations")) as served,
        FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client,
    ):
        assert client.send(a_frame(1, calibrated=False)).status == "done"
        receipt = client.send(a_frame(2, detector=5, calibrated=False))
        assert (receipt.status, receipt.error) == ("rejected", "NoCalibration")
        assert client.send(a_frame(3)).status == "done"
    associator.close()
    raw, plain = (batch.fingerprint for batch in associator.batches.values())
    assert raw != plain

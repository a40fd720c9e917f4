import pytest

from gpudiff.edges.focal_plane import read_focal_plane
from gpudiff.model.errors import BadConfiguration, InputRejected, UnreadableFile

HEADER = "detector,name,nx,ny,pix_mm,fpx_mm,fpy_mm,yaw_deg,gain_med,readnoise_med,saturation_med\n"


def test_the_lsst_camera_is_read(real_data):
    plane = read_focal_plane(real_data / "focal_plane" / "lsstcam_detectors.csv")
    assert len(plane.detectors) == 205
    assert (plane.detectors[0].name, plane.detectors[0].width) == ("R01_S00", 4072)
    assert plane.detectors[0].saturation == pytest.approx(80579 / 1.389245)
    assert max(abs(d.yaw_rad) for d in plane.detectors) > 1


def test_sensors_are_cut_about_their_centres(tmp_path):
    path = tmp_path / "camera.csv"
    path.write_text(HEADER + "4,A,4072,4000,0.01,-10,20,0,1.5,6,90000\n5,B,4072,4000,0.01,30,20,0,1.5,6,90000\n")
    plane = read_focal_plane(path, count=1, size=512)
    (only,) = plane.detectors
    assert (only.number, only.width, only.height, only.x_mm, only.y_mm) == (4, 512, 512, -10, 20)
    assert only.saturation == 60000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected columns"),
        ("detector,nx\n1,2\n", "missing ny"),
        (HEADER + "a,A,512,512,0.01,0,0,0,1.5,6,90000\n", "line 2: expected numbers"),
        (HEADER + "1,A,512,512,0.01,0,0,0,0,6,90000\n", "line 2: expected numbers"),
        (HEADER + "1,A,512,512,0.01,nan,0,0,1.5,6,90000\n", "line 2: expected a detector"),
        (HEADER + "300,A,512,512,0.01,0,0,0,1.5,6,90000\n", "line 2: expected a detector 0 to 255"),
        (HEADER + "1,A,512,512,0.01,0,0,0,-1.5,6,90000\n", "line 2: expected a detector"),
        (HEADER + 2 * "1,A,512,512,0.01,0,0,0,1.5,6,90000\n", "detector numbers that differ"),
    ],
)
def test_a_file_that_is_no_focal_plane_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "camera.csv"
    path.write_text(text)
    with pytest.raises(InputRejected, match=message):
        read_focal_plane(path)


def test_more_sensors_than_there_are_is_refused(tmp_path):
    path = tmp_path / "camera.csv"
    path.write_text(HEADER + "1,A,512,512,0.01,0,0,0,1.5,6,90000\n")
    with pytest.raises(InputRejected, match="expected 1 to 1 detectors, got 2"):
        read_focal_plane(path, count=2)


def test_a_size_too_small_is_refused(tmp_path):
    with pytest.raises(BadConfiguration, match="size: expected"):
        read_focal_plane(tmp_path / "camera.csv", size=16)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"absent\.csv"):
        read_focal_plane(tmp_path / "absent.csv")

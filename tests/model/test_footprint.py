"""gpudiff.model.footprint: where detectors lie on the sky, against a WCS built otherwise."""

import numpy as np
import pytest
from astropy.wcs import WCS

from gpudiff.edges.focal_plane import read_focal_plane
from gpudiff.model.footprint import footprints
from gpudiff.model.scene import Detector, FocalPlane

SCALE = 20.0


def by_wcs(detector: Detector, ra: float, dec: float, rotation: float) -> WCS:
    """A detector's TAN WCS by PC matrix: +x west, +y north, turned; then mm about the boresight to its pixels."""
    yaw, turn = detector.yaw_rad, np.radians(rotation)
    place = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    sky = np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.cdelt = [SCALE * detector.pixel_mm / 3600] * 2
    wcs.wcs.pc = sky @ place
    boresight = np.linalg.solve(place, [-detector.x_mm, -detector.y_mm]) / detector.pixel_mm
    wcs.wcs.crpix = boresight + 0.5 * np.array([detector.width + 1, detector.height + 1])
    return wcs


@pytest.mark.parametrize(
    ("ra", "dec", "rotation"), [(196.0, -21.0, 95.0), (0.3, 60.0, 10.0), (40.0, -89.7, 200.0)]
)
def test_corners_are_those_of_the_wcs(ra, dec, rotation):
    detector = Detector(7, "A", 4072, 4000, -169.25, 296.25, 0.01, 0.5 * np.pi)
    (one,) = footprints(FocalPlane((detector,)), ra, dec, rotation, SCALE)
    x, y = [0, 4071, 0, 4071], [0, 0, 3999, 3999]
    expected = by_wcs(detector, ra, dec, rotation).all_pix2world(x, y, 0)
    # both are the same projection in double precision: a microarcsecond apart at most
    np.testing.assert_allclose(np.mod(np.array(one.corners[0]) - expected[0] + 180, 360), 180, atol=1e-9)
    np.testing.assert_allclose(one.corners[1], expected[1], atol=1e-9)


def test_all_sensors_of_the_lsst_camera_agree_with_their_wcs(real_data):
    plane = read_focal_plane(real_data / "focal_plane" / "lsstcam_detectors.csv")
    made = footprints(plane, 196.0, -21.0, 95.0, SCALE)
    for detector, one in zip(plane.detectors, made, strict=True):
        x, y = [0, detector.width - 1], [0, detector.height - 1]
        ra, dec = by_wcs(detector, 196.0, -21.0, 95.0).all_pix2world(x, y, 0)
        np.testing.assert_allclose(one.corners[0][[0, 3]], ra, atol=1e-9)
        np.testing.assert_allclose(one.corners[1][[0, 3]], dec, atol=1e-9)


def test_only_the_detectors_asked_for_come():
    plane = FocalPlane(tuple(Detector(n, str(n), 512, 512, 10.0 * n, 0.0) for n in range(4)))
    assert [one.detector for one in footprints(plane, 10, 20, 0, SCALE, "r", (1, 3))] == [1, 3]


def test_a_footprint_is_what_a_simulated_frame_says_of_itself():
    from gpudiff.model.scene import Night
    from gpudiff.model.sky import Sky
    from gpudiff.science.view import wcs

    detector = Detector(1, "A", 600, 500, 30.0, -12.0, yaw_rad=1.2)
    (one,) = footprints(FocalPlane((detector,)), 150.0, 2.2, 25.0, SCALE)
    ra, dec = Sky(wcs(Night(rotation=25.0), 150.0, 2.2, detector)).to_sky([0, 599], [0, 499])
    np.testing.assert_allclose(one.corners[0][[0, 3]], ra, atol=1e-9)
    np.testing.assert_allclose(one.corners[1][[0, 3]], dec, atol=1e-9)

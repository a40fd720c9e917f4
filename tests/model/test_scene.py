import numpy as np
import pytest

from gpudiff.model.errors import BadConfiguration
from gpudiff.model.scene import RANGES, Night, grid


@pytest.mark.parametrize("name", [name for name, (low, _) in RANGES.items() if low >= 0])
def test_a_negative_option_is_refused_by_name(name):
    with pytest.raises(BadConfiguration, match=f"^{name}: expected .* got -1"):
        Night(**{name: -1})


def test_not_a_number_is_refused_by_name():
    with pytest.raises(BadConfiguration, match=r"^seeing: expected .* got nan"):
        Night(seeing=float("nan"))


@pytest.mark.parametrize("band", ["", "a/b", "verylongband"])
def test_a_band_that_cannot_name_a_file_is_refused(band):
    with pytest.raises(BadConfiguration, match=r"^band: expected"):
        Night(band=band)


def test_a_day_that_no_calendar_has_is_refused():
    with pytest.raises(BadConfiguration, match="date: expected YYYYMMDD, got 20261341"):
        Night(date=20261341)


def test_the_faintest_change_cannot_be_brighter_than_the_brightest():
    with pytest.raises(BadConfiguration, match="snr_high: expected at least 50"):
        Night(snr_low=50, snr_high=10)


def test_the_night_begins_after_its_date():
    assert int(Night(date=20261122).first_mjd()) == 61367  # 2026-11-23


@pytest.mark.parametrize(
    ("count", "size", "name"), [(0, 512, "detectors"), (257, 512, "detectors"), (4, 64, "size")]
)
def test_a_focal_plane_that_cannot_be_is_refused_by_name(count, size, name):
    with pytest.raises(BadConfiguration, match=f"^{name}: expected"):
        grid(count, size)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 189])
def test_the_sensors_of_the_grid_do_not_overlap(count):
    plane = grid(count, 512)
    places = np.array([(d.x_mm, d.y_mm) for d in plane.detectors])
    apart = np.abs(places[:, None] - places).max(-1) + 1e6 * np.eye(count)
    assert len(plane.detectors) == count
    assert apart.min() > 5.12


def test_pixel_positions_turn_with_the_sensor():
    import dataclasses

    turned = dataclasses.replace(grid(1, 512).detectors[0], yaw_rad=np.pi / 2, x_mm=10.0)
    x, y = turned.to_focal_plane(255.5 + 100, 255.5)
    assert (x, y) == (pytest.approx(10.0), pytest.approx(1.0))

import numpy as np
import pytest

from gpudiff.model.scene import Night, grid
from gpudiff.science.night import catalogue, epochs, power_law, visits


def test_fields_take_turns_and_are_pointed_at_again():
    planned = visits(Night(visits=4, fields=2))
    assert [v.field for v in planned] == [0, 1, 0, 1]
    assert (planned[0].ra, planned[0].dec) == (planned[2].ra, planned[2].dec)
    assert planned[0].ra != planned[1].ra


def test_seeing_changes_from_visit_to_visit_about_its_median():
    night = Night(visits=400, seeing=0.9)
    fwhm = np.array([v.weather.fwhm for v in visits(night)]) * night.pixel_scale
    # The median of 400 draws with a scatter of 12 % is known to 0.8 %.
    assert np.median(fwhm) == pytest.approx(0.9, rel=0.03)
    assert np.std(np.log(fwhm)) == pytest.approx(0.12, rel=0.2)


def test_a_field_has_its_own_earlier_epochs_and_perfect_registration_in_them():
    night = Night(epochs=3)
    first, other = epochs(night, 0), epochs(night, 1)
    assert len(first) == 3
    assert first[0].fwhm != other[0].fwhm
    assert not any(one.shift.any() for one in first)


def test_star_counts_follow_the_power_law():
    flux = power_law(np.random.default_rng(1), 100000, 1.0, 1e4, 0.7)
    # 100,000 draws: a count of 20,000 is known to 0.7 %; the upper cut takes 0.2 %.
    assert (flux > 10).mean() == pytest.approx(10**-0.7, rel=0.03)
    assert flux.min() >= 1
    assert flux.max() <= 1e4


def test_changes_are_as_many_as_asked_and_apart_from_each_other():
    night = Night(transients=20, vanished=3, variables=4, moving=2)
    sky = catalogue(night, 0, grid(1, 1024).detectors[0])
    kinds, counts = np.unique(sky.changes["kind"], return_counts=True)
    assert dict(zip(kinds, counts, strict=True)) == {
        "moving": 2,
        "transient": 20,
        "vanished": 3,
        "variable": 4,
    }
    placed = sky.changes["kind"] != "variable"
    x, y = sky.changes["x"][placed], sky.changes["y"][placed]
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 1e6 * np.eye(len(x))
    assert apart.min() >= 20


def test_some_transients_lie_in_hosts_and_some_beside_stars():
    sky = catalogue(Night(transients=10), 0, grid(1, 1024).detectors[0])
    transients = sky.changes["place"][sky.changes["kind"] == "transient"]
    assert [list(transients).count(place) for place in ("field", "host", "near-star")] == [4, 4, 2]


def test_object_ids_differ_between_detectors_and_fields():
    night, plane = Night(), grid(2, 256)
    ids = [catalogue(night, field, d).changes["objectId"] for field in (0, 1) for d in plane.detectors]
    assert len(set(np.concatenate(ids))) == sum(map(len, ids))


def test_an_empty_sky_is_allowed():
    night = Night(stars=0, galaxies=0, transients=2, variables=3)
    sky = catalogue(night, 0, grid(1, 256).detectors[0])
    assert len(sky.stars["x"]) == len(sky.galaxies["x"]) == 0
    assert "variable" not in sky.changes["kind"]

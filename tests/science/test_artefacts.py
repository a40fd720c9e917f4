import numpy as np
import pytest

from gpudiff.model.hard_scene import SCENES, night_of_scene
from gpudiff.model.mask import bit
from gpudiff.model.scene import Catalogue, Night, grid
from gpudiff.science.artefacts import artefacts
from gpudiff.science.night import catalogue, visits
from gpudiff.science.view import View

PLANE = grid(1, 384)
DETECTOR = PLANE.detectors[0]


def added(name, stars=None):
    scene = SCENES[name]
    night = night_of_scene(scene, Night(), 384)
    sky = catalogue(night, 0, DETECTOR)
    if stars is not None:
        sky = Catalogue(stars, sky.galaxies, sky.changes)
    view = View(DETECTOR, PLANE.radius_mm, visits(night)[0].weather)
    return artefacts(scene, night, sky, view, np.random.default_rng(5)), view


def test_a_bright_star_has_other_spikes_in_science_than_in_template():
    made, view = added("spikes", {"x": np.array([190.0]), "y": np.array([190.0]), "flux": np.array([5e6])})
    turn = np.radians(np.arange(0, 90, 0.5))
    ring = np.rint(190 + 80 * np.sin(turn)).astype(int), np.rint(190 + 80 * np.cos(turn)).astype(int)
    away = abs(int(np.argmax(made.science[ring])) - int(np.argmax(made.template[ring]))) * 0.5
    assert min(away, 90 - away) == pytest.approx(8, abs=1)  # a pixel at 80 px is 0.7 degrees
    different = np.abs(made.science - made.template) > 0.2 * np.sqrt(view.weather.sky)
    assert (made.mask[different] & bit("SUSPECT")).all()


def test_faint_stars_have_no_spikes():
    made, _ = added("spikes", {"x": np.array([190.0]), "y": np.array([190.0]), "flux": np.array([1e4])})
    assert not made.science.any()
    assert not made.mask.any()


def test_glints_lie_in_a_row_at_even_distances():
    made, _ = added("glints")
    light = made.told[0].light
    step = np.diff(light[:, :2], axis=0)
    np.testing.assert_allclose(step, step[:1].repeat(7, 0), atol=1e-9)
    for x, y, electrons in light:
        part = made.science[round(y) - 14 : round(y) + 15, round(x) - 14 : round(x) + 15]
        assert part.sum() == pytest.approx(electrons, rel=0.05)  # 14 px hold 97 % and more of a trailed glint


def test_a_standard_scene_has_none():
    made, _ = added("standard")
    assert not made.science.any()
    assert made.told == []

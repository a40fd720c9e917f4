import pytest

from gpudiff.model.errors import BadConfiguration
from gpudiff.model.hard_scene import SCENES, hard_scene, night_of_scene
from gpudiff.model.scene import Night


def test_every_scene_says_what_it_is_and_makes_a_night():
    for scene in SCENES.values():
        assert scene.meaning
        assert night_of_scene(scene, Night(), 1024).visits == 1


def test_what_changes_is_counted_by_area():
    assert night_of_scene(SCENES["standard"], Night(), 2048).transients == 96
    assert night_of_scene(SCENES["nothing"], Night(), 2048).transients == 0


def test_an_option_that_is_given_wins_over_the_scene():
    night = night_of_scene(SCENES["single-template"], Night(epochs=3, seed=9), 1024)
    assert (night.epochs, night.seed, night.transients) == (3, 9, 24)


def test_an_unknown_scene_is_refused_by_name():
    with pytest.raises(BadConfiguration, match=r"scene: expected one of standard, .*; got 'cloudy'"):
        hard_scene("cloudy")

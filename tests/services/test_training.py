"""Samples for the real/bogus model from folders."""

import numpy as np
import pytest

from gpudiff.model.config import Configuration
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.reliability import FEATURES
from gpudiff.model.scene import Night, grid
from gpudiff.services.simulator import simulate
from gpudiff.services.training import INJECTED, folder_sample, scenes_sample


def test_a_night_gives_its_changes_and_what_was_put_in_as_real(tmp_path):
    simulate(Night(visits=1, transients=4, variables=0, vanished=0, moving=0), grid(1, 384), tmp_path, 1)
    (sample,) = folder_sample(tmp_path, 5, 1, Configuration())
    assert sample.features.shape == (len(sample.real), len(FEATURES))
    assert set(sample.frame) == {5}
    assert INJECTED / 2 < sample.real.sum() <= INJECTED + 4  # the faintest, S/N 5, are found half the time


def test_a_scene_gives_the_same_sample_each_time():
    samples = [next(scenes_sample(1, 3, 256, Configuration())) for _ in range(2)]
    np.testing.assert_array_equal(samples[0].features, samples[1].features)
    assert samples[0].real.any()


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="frames/ and templates/"):
        folder_sample(tmp_path, 0, 1, Configuration())

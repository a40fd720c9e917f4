"""The door to the engines."""

from gpudiff.model.config import CHOICES
from gpudiff.science.subtract import ALGORITHMS


def test_every_algorithm_the_configuration_may_name_exists():
    assert set(CHOICES["match", "algorithm"]) == set(ALGORITHMS)

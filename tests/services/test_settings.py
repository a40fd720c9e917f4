"""gpudiff.services.settings: what a differencer and its workers are told."""

from pathlib import Path

import pytest

from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import BadConfiguration
from gpudiff.services.settings import Settings, from_json, to_json


def settings(**service) -> Settings:
    """Settings with some values of [service] changed."""
    configuration = override(Configuration(), "service", **service)
    return Settings(Path("/night"), Path("/templates"), "tcp://a", "tcp://b", configuration)


def test_a_worker_reads_what_was_written():
    told = settings(workers=3, lease_s=2.5)
    assert from_json(to_json(told)) == told


def test_workers_are_as_configured_or_one_a_core():
    assert settings(workers=3).workers == 3
    assert settings(workers=0).workers >= 1


@pytest.mark.parametrize("change", [{"workers": -1}, {"credit": 0}, {"lease_s": 0.0}, {"cutout_size": 4}])
def test_numbers_that_no_service_can_run_with_are_refused(change):
    (key,) = change
    with pytest.raises(BadConfiguration, match=key):
        settings(**change)

"""Fixtures that every test may use."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# as the command does, before NumPy is loaded: BLAS threads slow a subtraction tenfold on a busy machine


def pytest_configure(config: pytest.Config) -> None:
    """Ragged arrays are errors.  Said here: in pyproject.toml it would load NumPy before the lines above.

    No example fails by the clock: a busy machine draws and runs them slowly.
    """
    config.addinivalue_line("filterwarnings", "error::numpy.exceptions.VisibleDeprecationWarning")
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real frames: GPUDIFF_DATA, or ../shared/data beside the checkout.

    Missing data fails in CI (the environment variable CI is set) and skips elsewhere.
    """
    folder = Path(os.environ.get("GPUDIFF_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        message = f"real frames expected in {folder} (set GPUDIFF_DATA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    """A command run within a test starts a log on that test's standard error, which ends with the test."""
    logger = logging.getLogger("gpudiff")
    before = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running differencer whose associator commits everything, for the tests of one file."""
    from serving import SmallAssociator, serving

    associator = SmallAssociator()
    with serving(tmp_path_factory.mktemp("service"), associator) as served:
        yield served
    associator.close()

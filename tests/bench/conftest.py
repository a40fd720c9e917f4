"""The scripts of bench/ as modules."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bench():
    """bench("name") imports bench/name.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "bench")
        yield importlib.import_module

"""Each script of bench/ can be imported: what it takes from the package is there."""

from pathlib import Path

import pytest

SCRIPTS = sorted(path.stem for path in (Path(__file__).parents[2] / "bench").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_finds_what_it_imports(bench, script):
    assert bench(script).__doc__

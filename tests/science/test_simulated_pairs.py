"""Pairs by an independent scene maker, scored by its own detection code against a perfect template."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits

from gpudiff.edges.fits import read_frame
from gpudiff.edges.fits_difference import write_difference
from gpudiff.model.config import Configuration
from gpudiff.science.subtract import subtract

TOOLS = Path(__file__).parents[3] / "shared" / "tools"
SEEDS = 7301, 9412


def tool(name: str, *arguments: object) -> None:
    command = [sys.executable, str(TOOLS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def score(folder: Path, difference: Path, noise: str) -> dict:
    out = difference.with_suffix(".json")
    tool("evalpair.py", "--sim", folder, "--diff", difference, "--ref-noise", noise, "--json", out)
    return json.loads(out.read_text())


def found(result: dict) -> int:
    """Transients found, of "n/m"."""
    return int(result["found_transient"].split("/")[0])


@pytest.fixture(scope="module", params=SEEDS)
def scored(request, tmp_path_factory) -> tuple[dict, dict]:
    """(our scores, the perfect template's) of a 1024 x 1024 pair of one seed."""
    if not (TOOLS / "simpair.py").is_file():
        pytest.skip(f"no scene maker beside the checkout ({TOOLS / 'simpair.py'})")
    folder = tmp_path_factory.mktemp("pair")
    tool("simpair.py", "--out", folder, "--size", 1024, "--seed", request.param)
    frames = [read_frame(folder / f"{name}.fits", Configuration().instrument) for name in ("sci", "ref")]
    difference, sources = subtract(*frames, Configuration())
    write_difference(folder / "difference.fits", difference, sources)
    image = fits.getdata(folder / "difference.fits", "IMAGE")
    fits.writeto(folder / "ours.fits", image)
    tool("idealdiff.py", folder, folder / "ideal.fits")
    return score(folder, folder / "ours.fits", "white"), score(folder, folder / "ideal.fits", "none")


def test_nine_tenths_of_what_a_perfect_template_shows_are_found(scored):
    ours, ideal = scored
    assert found(ideal) > 50
    assert found(ours) >= 0.9 * found(ideal)

"""Real frames: the DECam pair of two epochs, and a pair in which nothing changed.

"Away from stars" is where the matched template, smoothed by a Gaussian of 3 px (so that the noise of its own
pixels chooses nothing), stays below 0.2 sigma of the difference within 4 px, and no source was detected within
8 px.  Sigma is the root of the VARIANCE plane, as written.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

from gpudiff.edges.fits import read_frame
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Difference
from gpudiff.model.tables import Table
from gpudiff.science.subtract import subtract

pytestmark = pytest.mark.real_data

CONFIGURATION = override(Configuration(), "match", threads=1)
VARIABLE = 128, 129
"""y, x of the DECam variable."""
BRIGHT = (181, 58), (73, 101), (126, 5), (233, 105), (202, 179)
"""y, x of the five brightest stars of the DECam stack, which the peer leaves as dipoles."""
PAIRS = [f"{a}{b}" for a, b in product("abcde", repeat=2)]


@dataclass(frozen=True)
class Result:
    """A difference and its sources."""

    difference: Difference
    sources: Table

    def near(self, y: float, x: float, radius: float) -> Table:
        return self.sources.take(np.hypot(self.sources["y"] - y, self.sources["x"] - x) < radius)

    def ratio_away_from_stars(self) -> np.ndarray:
        """Difference over sigma away from stars, clipped at 4.5 sigma."""
        made = self.difference
        known = np.isfinite(made.image)
        sigma = np.sqrt(np.nanmedian(made.variance))
        starry = maximum_filter(gaussian_filter(np.nan_to_num(made.matched), 3) > 0.2 * sigma, 9)
        starry |= maximum_filter(np.abs(made.score) > 5, 17)
        ratio = made.image[known & ~starry] / np.sqrt(made.variance[known & ~starry])
        return ratio[np.abs(ratio) < 4.5]


@cache
def subtracted(science: Path, template: Path) -> Result:
    frames = [read_frame(path, CONFIGURATION.instrument) for path in (science, template)]
    return Result(*subtract(*frames, CONFIGURATION))


@pytest.fixture
def single(real_data):
    """A pair of single DECam exposures by its two letters."""

    def take(letters: str) -> Result:
        folder = real_data / "decam_pair"
        names = [f"input_data__DEC-{o}{n}.mini.fits" for o, n in zip(("OBS04", "OBS18"), letters, strict=True)]
        return subtracted(*(folder / name for name in names))

    return take


@pytest.fixture
def stack(real_data):
    folder = real_data / "decam_pair"
    return subtracted(folder / "4check__Stack-DEC-OBS04.fits", folder / "4check__Stack-DEC-OBS18.fits")


@pytest.mark.parametrize("letters", PAIRS)
def test_the_variable_is_found_where_it_exceeds_5_sigma(single, letters):
    made = single(letters)
    y, x = VARIABLE
    peak = np.abs(made.difference.score[y - 2 : y + 3, x - 2 : x + 3]).max()
    assert peak > 5  # so in every one of these pairs: 13 sigma and more
    assert len(made.near(y, x, 2.0)) == 1


@pytest.mark.parametrize("letters", PAIRS)
def test_the_noise_away_from_stars_is_the_propagated_one_within_3_percent(single, letters):
    ratio = single(letters).ratio_away_from_stars()
    assert len(ratio) > 10_000  # 0.7 % a sigma at the least
    assert ratio.std() == pytest.approx(1, abs=0.03)


def test_single_pairs_give_few_unflagged_detections_beside_the_variable(single):
    false = [
        int((~made.sources["flagged"]).sum() - (~made.near(*VARIABLE, 2.0)["flagged"]).sum())
        for made in map(single, PAIRS)
    ]
    # Real changes are possible, and some exposures carry cosmic rays: one a pair on the average.
    assert np.mean(false) <= 1


def test_the_stack_shows_the_variable_unflagged(stack):
    (flagged,) = stack.near(*VARIABLE, 2.0)["flagged"]
    assert not flagged


def test_the_noise_of_the_stack_is_the_propagated_one_within_3_percent(stack):
    assert stack.ratio_away_from_stars().std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("y", "x"), BRIGHT)
def test_bright_stars_of_the_stack_give_no_unflagged_detection(stack, y, x):
    assert stack.near(y, x, 8.0)["flagged"].all()


@pytest.fixture(params=[("004", "005"), ("005", "004")], ids=["forth", "back"])
def unchanged(real_data, request):
    return subtracted(*(real_data / "eso085_pair" / f"aligned_eso085-030-{n}.fit" for n in request.param))


def test_a_pair_in_which_nothing_changed_gives_at_most_2_unflagged_detections(unchanged):
    assert (~unchanged.sources["flagged"]).sum() <= 2


def test_the_score_of_a_pair_in_which_nothing_changed_is_unit_normal_within_5_percent(unchanged):
    score = unchanged.difference.score
    quiet = (score != 0) & (maximum_filter(np.abs(score), 17) < 5)
    assert len(score[quiet]) > 10_000
    # the robust width, for the big galaxy's residual is no blank sky
    assert 1.4826 * np.median(np.abs(score[quiet])) == pytest.approx(1, abs=0.05)

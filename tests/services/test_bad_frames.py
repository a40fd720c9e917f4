"""Frames that cannot be subtracted, through the real service: each is rejected by name, kept, and counted."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, until
from small_pair import GAIN, HEADER, READ_NOISE, SATURATION, SIZE, WCS, images, render, save

from gpudiff.edges import dead_letters, wire
from gpudiff.edges.control import Receipt
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.services.settings import Settings

SCIENCE, TEMPLATE = images()
ELSEWHERE = WCS | {"CRVAL1": 151.0}
"""The sky of a template without stars."""
NOWHERE = WCS | {"CRVAL1": 20.0}
"""A sky of which there is no template."""


def a_frame(visit: int = 1, image: np.ndarray = SCIENCE, **values: Any) -> Frame:
    """The science frame of the small pair, with some of it changed."""
    known = {"gain": GAIN, "read_noise": READ_NOISE, "saturation": SATURATION, "wcs": WCS}
    return Frame(f"frame {visit}", Observation(FrameId(visit, 0, 3)), image, **known | values)


def half_nan() -> np.ndarray:
    image = SCIENCE.copy()
    image[: SIZE // 2] = np.nan
    return image


def full(value: float) -> np.ndarray:
    return np.full(SCIENCE.shape, value, np.float32)


def cube(parts: list) -> None:
    """Say that the pixels have three axes."""
    _say(parts, lambda header: header["planes"][0].update(shape=[1, SIZE, SIZE]))


def truncated(parts: list) -> None:
    """Leave out the last hundred bytes."""
    parts[2] = bytes(parts[2])[:-100]


def without_gain(parts: list) -> None:
    """Leave out a key that must be there."""
    _say(parts, lambda header: header.pop("gain"))


def _say(parts: list, change: Callable[[dict], Any]) -> None:
    header = json.loads(parts[1])
    change(header)
    parts[1] = json.dumps(header).encode()


BAD: dict[str, tuple[dict, Callable[[list], None] | None, str, str]] = {
    "all NaN": ({"image": full(np.nan)}, None, "NoUsablePixels", r"at least 60%.* got 0\.0%"),
    "half NaN": ({"image": half_nan()}, None, "NoUsablePixels", r"at least 60%.* got 50\.0%"),
    "constant": ({"image": full(400)}, None, "ConstantImage", "got the value 400 in every pixel"),
    "shape": (
        {"image": SCIENCE[:, :-24].copy(), "wcs": {}},
        None,
        "NoTemplate",
        "covers detector 3, 200 x 224 px",
    ),
    "too small": ({"image": SCIENCE[:40, :40].copy()}, None, "WrongShape", r"at least 64 x 64, got \(40, 40\)"),
    "variance 0": ({"variance": full(0)}, None, "BadVariance", r"positive variance, got .* for 100\.0%"),
    "variance -4": ({"variance": full(-4)}, None, "BadVariance", r"positive variance, got .* for 100\.0%"),
    "absurd gain": ({"gain": 1e9}, None, "BadGain", r"gain between 1e-06 and 1e\+06, got 1000000000"),
    "no gain key": ({}, without_gain, "MissingKey", "missing required field `gain`"),
    "cube": ({}, cube, "BadMessage", r"`array` of length 2 .* = \[1, 224, 224\]"),
    "truncated": ({}, truncated, "BadMessage", "200704 bytes by its shape.* 200604 came"),
    "no template": ({"wcs": NOWHERE}, None, "NoTemplate", r"\(2 files\) covers ra 20\.0000, dec \+2\.2000"),
    "no stars": ({"wcs": ELSEWHERE}, None, "NoStars", "expected .* stars?.* got"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Served]:
    """One differencer with the real subtraction, for all bad frames: it must go on."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "templates").mkdir()
    save(folder / "templates" / "stars.fits", TEMPLATE)
    save(folder / "templates" / "no-stars.fits", render([], 1.5, 5), HEADER | ELSEWHERE)
    associator = SmallAssociator()
    configuration = override(Configuration(), "service", workers=1)
    local = "tcp://127.0.0.1:*"
    served = Served(Settings(folder, folder / "templates", local, associator.endpoint, configuration))
    yield served
    served.stop()
    associator.close()


@pytest.fixture(scope="module")
def counters(service) -> str:
    """Where Prometheus reads the service's counters."""
    return f"http://127.0.0.1:{service.differencer.metrics.serve(0)}/metrics"


def counted(url: str, error: str) -> float:
    """Rejections by this error, as Prometheus reads them."""
    text = urllib.request.urlopen(url, timeout=TIMEOUT_S).read().decode()
    found = re.search(rf'^gpudiff_rejections_total{{error="{error}"}} (\S+)', text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def ask(raw: Raw, visit: int, values: dict, change: Callable[[list], None] | None) -> Receipt:
    """The final receipt of a frame, its message changed."""
    parts = wire.encode(a_frame(visit, **values))
    if change:
        change(parts)
    return raw.ask(parts)


@pytest.mark.parametrize("what", BAD)
def test_a_bad_frame_is_rejected_kept_and_counted_and_the_next_is_done(what, raw, service, counters):
    values, change, error, reason = BAD[what]
    visit = 2 * list(BAD).index(what) + 10
    before, status = counted(counters, error), service.status()
    receipt = ask(raw, visit, values, change)
    assert (receipt.status, receipt.error, receipt.visit) == ("rejected", error, visit)
    assert re.search(reason, receipt.reason)
    assert "\n" not in receipt.reason

    letter = dead_letters.read(service.settings.directory / "dead" / f"{visit}-0-3-{error}.json")
    assert (letter.error, letter.reason) == (error, receipt.reason)
    assert counted(counters, error) == before + 1
    until(lambda: service.status()["rejected"].get(error, 0) == status["rejected"].get(error, 0) + 1)

    good = raw.ask(wire.encode(a_frame(visit + 1)))
    assert (good.status, good.sources > 0) == ("done", True)
    until(lambda: service.status()["done"] == status["done"] + 1)

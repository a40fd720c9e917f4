"""The provenance of a subtraction: what went in, what was done with which settings."""

from typing import Any

from gpudiff import __version__
from gpudiff.model.config import Configuration
from gpudiff.model.frame import Frame
from gpudiff.model.provenance import extend, step


def difference_steps(
    science: Frame, template: Frame, configuration: Configuration, device: str = "cpu"
) -> tuple[tuple[dict[str, Any], ...], str]:
    """(steps, fingerprint) from the frames' digests through calibrate, difference and detect.

    device : what computed it; recorded beside the steps, in no fingerprint
    """
    steps = (
        step("calibrate", __version__, configuration.digest("calibrate"), [science.digest], device),
        step("difference", __version__, configuration.digest("match"), [template.digest], device),
        step("detect", __version__, configuration.digest("detect"), [], device),
    )
    return steps, extend("", steps)

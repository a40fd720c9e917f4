"""The provenance of a subtraction: what went in, what was done with which settings."""

from typing import Any

from gpudiff import __version__
from gpudiff.model.config import Configuration
from gpudiff.model.frame import Frame
from gpudiff.model.provenance import extend, step


def difference_steps(
    science: Frame, template: Frame, configuration: Configuration
) -> tuple[tuple[dict[str, Any], ...], str]:
    """(steps, fingerprint) from the frames' digests through calibrate, difference and detect."""
    steps = (
        step("calibrate", __version__, configuration.digest("calibrate"), [science.digest]),
        step("difference", __version__, configuration.digest("match"), [template.digest]),
        step("detect", __version__, configuration.digest("detect"), []),
    )
    return steps, extend("", steps)

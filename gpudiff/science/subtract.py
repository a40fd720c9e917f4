"""The whole river of pixels: two frames in, a difference and its DIASources out."""

import dataclasses
import time
from collections.abc import Callable

from gpudiff.model.config import Configuration
from gpudiff.model.frame import Difference, Exposure, Frame
from gpudiff.model.tables import Table
from gpudiff.science.align import align
from gpudiff.science.calibrate import calibrate
from gpudiff.science.detect import detect
from gpudiff.science.difference import difference

ALGORITHMS: dict[str, Callable[[Exposure, Exposure, Configuration], Difference]] = {"alard-lupton": difference}
"""What `match.algorithm` may say (model.config.CHOICES has the same names): two exposures on one pixel grid in,
their difference out."""


def subtract(science: Frame, template: Frame, configuration: Configuration) -> tuple[Difference, Table]:
    """Science minus matched template, and the DIASources in it.

    Raises InputRejected (its branches name why) for frames that cannot be subtracted.
    """
    start = time.perf_counter()
    exposures = calibrate(science, configuration), calibrate(template, configuration)
    calibrated = time.perf_counter()
    aligned = align(*exposures, configuration)
    in_place = time.perf_counter()
    made = ALGORITHMS[configuration.match.algorithm](exposures[0], aligned, configuration)
    differenced = time.perf_counter()
    marked, sources = detect(made, configuration)
    seconds = {
        "calibrate": calibrated - start,
        "align": in_place - calibrated,
        **made.seconds,
        "detect": time.perf_counter() - differenced,
    }
    return dataclasses.replace(marked, seconds=seconds), sources

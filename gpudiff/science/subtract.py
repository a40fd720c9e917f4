"""The whole river of pixels: two frames in, a difference and its DIASources out."""

from gpudiff.model.config import Configuration
from gpudiff.model.frame import Difference, Frame
from gpudiff.model.tables import Table
from gpudiff.science.calibrate import calibrate
from gpudiff.science.detect import detect
from gpudiff.science.difference import difference


def subtract(science: Frame, template: Frame, configuration: Configuration) -> tuple[Difference, Table]:
    """Science minus matched template, and the DIASources in it.

    Raises InputRejected (its branches name why) for frames that cannot be subtracted.
    """
    made = difference(calibrate(science, configuration), calibrate(template, configuration), configuration)
    return detect(made, configuration)

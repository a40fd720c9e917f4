"""The whole river of pixels: two frames in, a difference and its DIASources out."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial

from gpudiff.arrays.passes import Device, device_named
from gpudiff.model.config import Configuration
from gpudiff.model.frame import Difference, Exposure, Frame
from gpudiff.model.tables import Table
from gpudiff.science.align import align
from gpudiff.science.auto import auto
from gpudiff.science.calibrate import calibrate
from gpudiff.science.channels import level_channels
from gpudiff.science.delta import delta
from gpudiff.science.detect import detect
from gpudiff.science.difference import difference
from gpudiff.science.known_template import calibrated
from gpudiff.science.lines import level_lines
from gpudiff.science.whole_image import whole_image
from gpudiff.science.zogy import zogy

ALGORITHMS: dict[str, Callable[[Exposure, Exposure, Configuration, Device], Difference]] = {
    "auto": partial(difference, fit_kernel=auto),
    "alard-lupton": difference,
    "delta": partial(difference, fit_kernel=delta),
    "whole-image": partial(difference, fit_kernel=whole_image),
    "zogy": zogy,
}
"""What `match.algorithm` may say (model.config.CHOICES has the same names): two exposures on one pixel grid in,
their difference out."""


def subtract(
    science: Frame, template: Frame, configuration: Configuration, device: Device | None = None
) -> tuple[Difference, Table]:
    """Science minus matched template, and the DIASources in it.

    device : where the passes over all pixels are computed; None: the one that `match.device` names.  On a GPU the
        difference's planes stay there (`arrays.afar`) and come down as they are read
    Raises InputRejected (its branches name why) for frames that cannot be subtracted, DeviceFailed.
    """
    start = time.perf_counter()
    device = (device or open_device(configuration)).frame()
    exposures = calibrate(science, configuration, device), calibrated(template, configuration, device)
    seconds = {"calibrate": time.perf_counter() - start}
    made = difference_exposures(*exposures, configuration, device)
    return search(dataclasses.replace(made, seconds=seconds | made.seconds), configuration, device)


def open_device(configuration: Configuration) -> Device:
    """The device that `match.device` names; opened on the first call.  Raises DeviceFailed."""
    return device_named(configuration.match.device, configuration.match.gpu_memory)


def difference_exposures(
    science: Exposure, template: Exposure, configuration: Configuration, device: Device
) -> Difference:
    """The difference of two exposures, not searched yet; their images are used up.

    device : for this frame (`Device.frame`)
    """
    start = time.perf_counter()
    science, template = (level_channels(one, configuration.calibrate) for one in (science, template))
    device.hold(template.held, template.image, stays=True)
    device.hold(science.held, science.image)
    aligned = align(science, template, configuration, device)
    notes = level_lines(science, aligned, device)
    in_place = time.perf_counter()
    made = ALGORITHMS[configuration.match.algorithm](science, aligned, configuration, device)
    seconds = {"align": in_place - start, **made.seconds}
    return dataclasses.replace(made, seconds=seconds, notes=(*made.notes, *notes))


def search(made: Difference, configuration: Configuration, device: Device) -> tuple[Difference, Table]:
    """(the difference with its mask and quality complete, the DIASources in it); no other plane changes.

    device : the one that made it
    """
    start = time.perf_counter()
    marked, sources = detect(made, configuration, device)
    seconds = {**marked.seconds, "detect": time.perf_counter() - start}
    return dataclasses.replace(marked, seconds=seconds, notes=(*marked.notes, *device.notes)), sources

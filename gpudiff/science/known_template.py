"""Templates that come again: what was found out about one is kept, and not looked for in its pixels once more."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import Device
from gpudiff.model.config import Configuration
from gpudiff.model.frame import Exposure, Frame
from gpudiff.model.plane import SmoothPlane
from gpudiff.science.calibrate import bands, calibrate, held_name

FEW = 0.01
"""Share of the pixels that a mask marks, at most, of a template that is kept: of more it takes as long to tell."""


@dataclass(frozen=True)
class Known:
    """An exposure without its pixels, as `calibrate` made it.

    empty : the exposure, without planes; held : its name
    marked, bits : (N,) int32 numbers of the pixels that its mask marks, and uint16 what with
    flaws, values : (M,) int64 numbers of those that are unusable, and float32 what its image has there
    """

    empty: Exposure
    held: str
    marked: np.ndarray
    bits: np.ndarray
    flaws: np.ndarray
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Of the arrays, and of the sky's factors as they will be."""
        factors = (*self.empty.sky.factors(), *self.empty.sky_variance.factors())
        arrays = self.marked, self.bits, self.flaws, self.values
        return sum(array.nbytes for array in (*arrays, *factors))


def calibrated(template: Frame, configuration: Configuration, device: Device) -> Exposure:
    """What `calibrate` makes of a template, pixel by pixel; from the second time on without a search for its
    flaws, its sky and its noise.

    device : what remembers it, by digest and configuration; and as `calibrate` has it
    Raises as `calibrate` does.
    """
    name = held_name(template, configuration)
    known = device.remembered.find(name)
    if known is not None:
        return _again(template, known, configuration.match.threads)
    made = calibrate(template, configuration, device)
    known = _known(made)
    if known is not None:
        device.remembered.keep(name, known, known.nbytes)
    return made


def _known(made: Exposure) -> Known | None:
    """What to keep of an exposure; None of one without a name, and where it were planes."""
    if not made.held or not isinstance(made.sky_variance, SmoothPlane):
        return None
    marked = np.flatnonzero(made.mask)
    if len(marked) > FEW * made.mask.size:
        return None
    mask, image = made.mask.reshape(-1), made.image.reshape(-1)
    return Known(
        made.without_planes(), made.held, marked.astype(np.int32), mask[marked], made.flaws, image[made.flaws]
    )


def _again(template: Frame, known: Known, threads: int) -> Exposure:
    """The exposure that is known, of the template's pixels."""
    shape, sky = template.image.shape, known.empty.sky
    image, mask, unusable = np.empty(shape, np.float32), np.zeros(shape, np.uint16), np.zeros(shape, bool)

    def subtract_sky(band: slice) -> None:
        below = sky.cut(band.start, band.stop, 0, shape[1])
        np.subtract(template.image[band], below, out=image[band], dtype=np.float32, casting="unsafe")

    over(subtract_sky, bands(shape[0]), threads)
    image.reshape(-1)[known.flaws] = known.values
    mask.reshape(-1)[known.marked] = known.bits
    unusable.reshape(-1)[known.flaws] = True
    frame = template.without_planes()
    made = dataclasses.replace(known.empty, frame=frame, image=image, mask=mask, held=known.held)
    return made.knowing(unusable, known.flaws)

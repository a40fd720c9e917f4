"""Columns and rows of a pair that are off from those beside them: levelled, or marked where that mends nothing."""

import numpy as np

from gpudiff.arrays.lines import Line, find_lines
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.passes import CPU, Device
from gpudiff.model.frame import Exposure
from gpudiff.science.stars import sky_noise

NEAR, ROUND = 1, 4
"""Pixels from a line within which its light lies in an image that was resampled or stacked; of those beyond."""
SEEN, ALIKE = 5.0, 0.3
"""Errors from which on it does, and the share of the line's level, both over the noise of the sky: light of stars
varies, too."""


def level_lines(science: Exposure, template: Exposure, device: Device = CPU) -> list[str]:
    """Take the level of what `find_lines` finds out of either image, in place; a note for each that had some.

    A line that is noisier than those beside it is marked BAD: of much dark current, or of a level that varies.
    One that the other image shows as well, less sharply, is left in both: it was stacked or resampled.
    science, template : on one pixel grid; device : where the images are held
    """
    pair = science, template
    noise = [sky_noise(one) for one in pair]
    found = [find_lines(one.image, one.unusable, sigma) for one, sigma in zip(pair, noise, strict=True)]
    notes = []
    for n, name in enumerate(("science", "template")):
        others = {(line.is_row, _place(line)) for line in found[1 - n]}
        mine = [
            line
            for line in found[n]
            if _among(line, others) or not _shows(pair[1 - n], line, line.level / noise[n])
        ]
        if mine:
            bad = sum(line.noisy for line in mine)
            said = f"{len(mine) - bad} columns or rows of one pixel in {name} levelled, {bad} masked"
            notes.append(f"{said}: they are off from those beside them")
            _mend(pair[n], mine, device)
    return notes


def _place(line: Line) -> int:
    return int(line.y[0] if line.is_row else line.x[0])


def _among(line: Line, others: set[tuple[bool, int]]) -> bool:
    """Whether it is one of them, or beside one."""
    return any((line.is_row, _place(line) + step) in others for step in (-1, 0, 1))


def _shows(exposure: Exposure, line: Line, sigmas: float) -> bool:
    """Whether it has light, or lacks it, along a line of that level in another image.

    sigmas : the level, of a sky pixel there
    """
    pixels, along = (exposure.image.T, line.x) if line.is_row else (exposure.image, line.y)
    across = np.arange(-ROUND, ROUND + 1)
    near = pixels[along[:, None], np.clip(_place(line) + across, 0, pixels.shape[1] - 1)]
    inner = np.abs(across) <= NEAR
    each = near[:, inner].mean(1) - near[:, ~inner].mean(1)
    off = abs(float(np.median(each)))
    spread = (2 * NEAR + 1) * off / sky_noise(exposure)
    return off > SEEN * robust_sigma(each) / np.sqrt(len(each)) and spread > ALIKE * abs(sigmas)


def _mend(exposure: Exposure, lines: list[Line], device: Device) -> None:
    for line in lines:
        if line.noisy:
            exposure.mark(line.y, line.x, "BAD")
            exposure.image[line.y, line.x] = 0
        else:
            exposure.image[line.y, line.x] -= np.float32(line.level)
    changed = np.unique(np.concatenate([line.y * exposure.shape[1] + line.x for line in lines]))
    device.refresh(exposure.held, exposure.image, changed)

"""Stars and PSFs of a pair, once what only looks like stars is gone."""

import numpy as np

from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.stamps import stamps
from gpudiff.model.config import Match
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.model.mask import marked
from gpudiff.science.cosmic_rays import mark_cosmic_rays, suspects
from gpudiff.science.given_psfs import stars_or_psfs
from gpudiff.science.psf import psf_of
from gpudiff.science.stars import Stars

MARGIN = 15
"""Pixels from the edge within which a star does not help to match."""


def clean_stars(
    science: Exposure, template: Exposure, settings: Match, device: Device = CPU
) -> tuple[Stars, dict[str, PsfModel], list[str]]:
    """(stars, PSF of "science" and "template", a note on cosmic-ray pixels where there were some).

    Hot pixels look like stars to a first search; when some do, stars and PSFs are made again without them.
    science, template : one and the same where an exposure is cleaned for itself, by one thread: two would collide
    device : where they are looked for and measured
    """
    images = {"science": science, "template": template}
    beside = settings.threads if science is not template else 1
    margin = min(MARGIN, min(science.shape) // 6)
    stars = stars_or_psfs(science, template, settings, margin, device)

    def measure(name: str) -> PsfModel:
        return psf_of(images[name], stars, name, device)

    def look(name: str) -> tuple[PsfModel, np.ndarray]:
        psf = measure(name)
        return psf, suspects(images[name], psf, device)

    threads = beside if device is CPU else 1  # a device takes launches from one thread of a frame
    seen = dict(zip(images, over(look, images, threads), strict=True))
    psfs = {name: psf for name, (psf, _) in seen.items()}
    found = over(lambda name: mark_cosmic_rays(images[name], *seen[name]), images, beside)
    if any(marked(stamps(image.mask, stars.y, stars.x, 2), "CR").any() for image in images.values()):
        for image in images.values():
            device.refresh(image.held, image.image, image.flaws)
        stars = stars_or_psfs(science, template, settings, margin, device)
        psfs = dict(zip(images, over(measure, images, threads), strict=True))
    said = f"cosmic-ray and hot pixels found: {found[0]} in science, {found[1]} in template"
    return stars, psfs, [said] if any(found) else []

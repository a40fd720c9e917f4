"""The hard scenes: pairs of a science image and a template, each with one thing that subtraction stumbles on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from gpudiff.model.errors import BadConfiguration
from gpudiff.model.frame import Frame
from gpudiff.model.scene import Night
from gpudiff.model.tables import Table

PAIR: dict[str, Any] = {
    "visits": 1,
    "epochs": 10,
    "seeing": 0.84,
    "template_seeing": 0.66,
    "seeing_spread": 0.0,
    "cosmic_rays": 40.0,
    "mask_cosmic_rays": True,
    "transients": 24,
    "vanished": 4,
    "variables": 8,
    "moving": 0,
    "snr_low": 4.0,
    "snr_high": 60.0,
}
"""The night of the standard scene, where it is not `Night`'s own; what changes is counted per 1024 x 1024 px."""
COUNTED = ("transients", "vanished", "variables", "moving")


@dataclass(frozen=True)
class HardScene:
    """What one scene has that the standard one has not.

    night : options of the night
    usable_stars : so many stars bright enough to match PSFs by, on a sensor of any size; None: as they fall
    registration_rms : px in each coordinate, of an error quadratic over the field; None: the night's
    trails : px, shortest and longest trail of the moving objects; None: the night's rates
    rough_sky : rms of the science image's sky about its surface, relative to the sky
    hot_pixels : per 1024 x 1024 px
    masked : False: neither image has a mask
    spikes : bright stars have diffraction spikes, halos and ghosts, others in science than in template
    streaks : peak brightness of each satellite streak, sigmas of the sky's noise a pixel
    glints : flashes of a tumbling satellite, in a row
    turn, distortion : degrees by which the template's own grid is turned, px of its distortion at mid-edge
    """

    meaning: str
    night: Mapping[str, Any] = field(default_factory=dict)
    usable_stars: int | None = None
    registration_rms: float | None = None
    trails: tuple[float, float] | None = None
    rough_sky: float = 0.0
    hot_pixels: float = 0.0
    masked: bool = True
    spikes: bool = False
    streaks: tuple[float, ...] = ()
    glints: int = 0
    turn: float = 0.0
    distortion: float = 0.0


SCENES: dict[str, HardScene] = {
    "standard": HardScene("template sharper than the science image, ten epochs deep, registered to 0.05 px"),
    "science-sharper": HardScene(
        "science image sharper than the template", {"seeing": 0.64, "template_seeing": 0.86}
    ),
    "single-template": HardScene("template of one exposure", {"epochs": 1}),
    "crowded": HardScene("ten times the stars", {"stars": 12000.0}),
    "misregistered": HardScene("registration error of 0.3 px rms", registration_rms=0.3),
    "heavy-wings": HardScene("PSF with heavy wings, Moffat 2.5", {"moffat_beta": 2.5}),
    "undersampled": HardScene("FWHM of 1.8 px", {"pixel_scale": 0.4, "seeing": 0.72, "template_seeing": 0.68}),
    "few-stars": HardScene("15 usable stars", usable_stars=15),
    "rough-sky": HardScene("sky that is not a low-order surface", rough_sky=0.02),
    "no-mask": HardScene("cosmic rays and hot pixels, no mask", {"bad_columns": 0}, hot_pixels=80, masked=False),
    "own-grid": HardScene(
        "template on a grid of its own, turned by 2 degrees and distorted", turn=2.0, distortion=3.0
    ),
    "spikes": HardScene("diffraction spikes, halos and ghosts of bright stars", spikes=True),
    "streak": HardScene("two satellite streaks", streaks=(8.0, 1.5)),
    "glints": HardScene("a row of glints of a tumbling satellite", glints=8),
    "trails": HardScene("asteroids trailed by 5 to 40 px", {"moving": 12, "snr_low": 10.0}, trails=(5.0, 40.0)),
    "nothing": HardScene("nothing changed", {name: 0 for name in COUNTED}),
}


@dataclass(frozen=True)
class HardPair:
    """A pair with its truth.

    perfect : science minus its own noiseless static sky and artefacts, float32, with the true variance of that
        sky and the true PSF; its mask is the science image's, with STREAK where streaks and glints are, SUSPECT
        on spikes, halos and ghosts, and CR and BAD on every cosmic ray and hot pixel
    """

    science: Frame
    template: Frame
    perfect: Frame
    truth: Table


def hard_scene(name: str) -> HardScene:
    """The scene of that name; raises BadConfiguration."""
    if name not in SCENES:
        raise BadConfiguration(f"scene: expected one of {', '.join(SCENES)}; got {name!r}")
    return SCENES[name]


def night_of_scene(scene: HardScene, given: Night, size: int) -> Night:
    """The scene's night; an option of `given` that is not at its default wins over the scene's.

    What changes is counted per 1024 x 1024 px here, per detector of `size` x `size` px in the night.
    """
    wanted = {**PAIR, **scene.night}
    for name in COUNTED:
        if wanted[name]:
            wanted[name] = max(2, round(wanted[name] * (size / 1024) ** 2))
    chosen = {f.name: getattr(given, f.name) for f in fields(Night) if getattr(given, f.name) != f.default}
    return replace(Night(), **{**wanted, **chosen})

"""A template brought onto the science frame's pixel grid, by its WCS or by the stars in both."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.resample import Lattice, Place, flaw, lattice
from gpudiff.model.config import Configuration, Match
from gpudiff.model.errors import NoOverlap, WrongShape
from gpudiff.model.frame import Exposure
from gpudiff.model.mask import UNUSABLE, bit, marked
from gpudiff.model.plane import DensePlane, Plane, SmoothPlane
from gpudiff.model.sky import Sky
from gpudiff.science.asterisms import (
    BrightStars,
    Fit,
    agreement,
    bright_stars,
    refined,
    similar,
    similar_or_mirrored,
)
from gpudiff.science.cosmic_rays import mark_cosmic_rays, suspects
from gpudiff.science.psf import psf_of
from gpudiff.science.saturated import fill_cores
from gpudiff.science.stars import find_stars, sky_noise

AGREE = 0.1
"""Pixels up to which two WCS are one."""
TAKEN_UP = 0.4
"""Pixels up to which the matching kernel takes up an offset; resampling would cost noise and time for nothing."""
CELL = 128
"""Pixels of the mesh on which smooth planes are resampled."""
MIDDLE = 256
"""Pixels from the middle of the frame within which the stars are asked whether two WCS that agree are right."""
FAR = 1e9
NEXT = 7
"""Pixels along the square in which a bright star's interpolation error may be a detection."""
MARGIN = 15
"""Pixels from the template's edge within which a star does not help to measure its PSF."""


def align(science: Exposure, template: Exposure, configuration: Configuration, device: Device = CPU) -> Exposure:
    """The template on the science frame's pixel grid, its notes saying what was done; itself where nothing was.

    `match.align` says how.  "none": the pixel grids are taken as aligned, whatever the WCS say.  "wcs": the WCS of
    both are believed.  "stars": a map is fitted to the stars in both.  "auto": grids of one shape whose WCS agree
    within 0.1 px, or without two WCS, are taken as aligned unless their stars say otherwise; else the stars
    say whether pixel grids or WCS are to be believed, however far away the WCS put the template, and a map is
    fitted to them when neither is.

    A resampled template keeps flux, gain, and the digest of what it was made from; pixels it does not cover are
    NO_DATA.  Its sky variance is that of white noise with the same power on the scale of a star, and counts as
    measured: noise of neighbouring pixels is correlated, which the difference looks at and whitens.

    device : where stars are looked for and it is resampled
    Raises WrongShape for grids of two shapes where there is nothing to go by, NoOverlap when science and
    template show different sky or their stars cannot be brought together.
    """
    choice = configuration.match.align
    here, there = Sky(science.frame.wcs), Sky(template.frame.wcs)
    nothing = choice == "auto" and not (here and there)
    if choice == "none" or (nothing and science.shape != template.shape):
        return _as_it_is(science, template, here, there)
    if choice == "stars":
        plan = _by_stars(science, template, device)
    elif nothing:
        plan = _unless_stars_say_otherwise(science, template, "without two WCS", device)
    else:
        plan = _by_wcs(science, template, here, there, choice == "auto", device)
    if plan.place is None:
        return _placed(science, template, *plan.notes)
    filled, sigma = _filled(template, configuration.match, device)
    return _resampled(science, filled, sigma, plan, device, configuration.match.threads)


@dataclass(frozen=True)
class _Plan:
    """Where in the template each science pixel lies, None where it lies at the same place; what to say of it."""

    place: Place | None
    note: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.note,) if self.note else ()


def _as_it_is(science: Exposure, template: Exposure, here: Sky, there: Sky) -> Exposure:
    if science.shape == template.shape:
        if not (here and there) or _difference(_through(here, there), science.shape) < AGREE:
            return _placed(science, template)
        return _placed(science, template, f"{_apart(here, there, science, template)}: taken as aligned")
    raise WrongShape(
        f"{template.name}: expected a template on the science frame's {science.shape} pixel grid, or a WCS in "
        f'both to bring it there, got {template.shape}; align = "stars" does without'
    )


def _placed(science: Exposure, template: Exposure, *notes: str) -> Exposure:
    """The template with the science frame's WCS, which is where it lies."""
    frame = dataclasses.replace(template.frame, wcs=science.frame.wcs)
    placed = dataclasses.replace(template, frame=frame, notes=(*template.notes, *notes))
    return placed.knowing(template.unusable, template.flaws)


# ---------------------------------------------------------------- which map
def _by_wcs(science: Exposure, template: Exposure, here: Sky, there: Sky, check: bool, device: Device) -> _Plan:
    if not (here and there):
        raise WrongShape(f"{(template if here else science).name}: expected a WCS to align by, got none")
    place, away = _through(here, there), _away(here, there, science, template)
    off = _difference(place, science.shape)
    if not away and science.shape == template.shape and off < AGREE:
        if not check or _coincide_in_the_middle(science, template, device):
            return _Plan(None)
        return _unless_stars_say_otherwise(science, template, "by two WCS that agree", device)
    if check:
        return _checked(science, template, place, bool(away), _apart(here, there, science, template), device)
    if away:
        raise _no_overlap(template, away)
    return _Plan(place, f"resampled by WCS, {off:.2f} px from the science grid")


def _checked(science: Exposure, template: Exposure, place: Place, apart: bool, said: str, device: Device) -> _Plan:
    """What the stars say of two WCS.

    apart : by them no science pixel lies in the template; said : how they differ
    """
    stars = _Stars.of(science, template, device)
    by_wcs = stars.under(place)
    as_is = stars.under(_identity) if science.shape == template.shape else None
    if as_is and as_is.agrees and _good_as_it_is(as_is, by_wcs):
        return _Plan(None, f"{said}; {as_is.said} pixel by pixel: taken as aligned")
    if by_wcs.agrees:
        return stars.finished(place, by_wcs, f"{said}: resampled by WCS; {by_wcs.said}")
    if not apart and min(len(stars.mine), len(stars.its)) < Fit.FEWEST:
        seen = f"{len(stars.mine)} and {len(stars.its)} bright stars"
        return _Plan(place, f"{said}: resampled by WCS, unchecked: {seen}")
    if as_is and as_is.agrees:
        return stars.finished(
            _identity, as_is, f"{said}, wrongly: resampled by stars; {as_is.said} pixel by pixel"
        )
    found = similar(stars.mine, stars.its, template.shape)
    if found is None:
        tried = f"by WCS {by_wcs.said}" + (f", pixel by pixel {as_is.said}" if as_is else "")
        raise NoOverlap(
            f"{template.name}: expected the science frame's stars, got a template where {tried}: {said}"
        )
    return stars.finished(found.place, found.fit, f"{said}, wrongly: resampled by stars; {found.fit.said}")


def _good_as_it_is(as_is: Fit, by_wcs: Fit) -> bool:
    """Whether the pixel grids are as good as the WCS, or good enough for the matching kernel."""
    if as_is.count < 0.7 * by_wcs.count:
        return False
    return as_is.residual < TAKEN_UP or (by_wcs.agrees and as_is.residual < 1.2 * by_wcs.residual)


def _by_stars(science: Exposure, template: Exposure, device: Device) -> _Plan:
    stars = _Stars.of(science, template, device)
    found = similar_or_mirrored(stars.mine, stars.its, template.shape)
    if found is None:
        raise NoOverlap(
            f"{template.name}: expected the science frame's stars, got {len(stars.its)} bright ones among which "
            f"no pattern of its {len(stars.mine)} was found"
        )
    return stars.finished(found.place, found.fit, f"resampled by stars; {found.fit.said}")


def _coincide_in_the_middle(science: Exposure, template: Exposure, device: Device) -> bool:
    """Whether the stars do there, pixel by pixel: two WCS agree, too, that both say where a telescope was sent."""
    mine, its = bright_stars(science, half=MIDDLE), _in_the_middle(template, device)
    return agreement(_identity, mine, its, template.shape).holds


def _in_the_middle(template: Exposure, device: Device) -> BrightStars:
    """The template's bright stars there, which the device remembers of one that comes again."""
    name = f"{template.held} middle" if template.held else ""
    stars = device.remembered.find(name)
    if stars is None:
        stars = bright_stars(template, half=MIDDLE)
        if name:
            device.remembered.keep(name, stars, stars.nbytes)
    return stars


def _unless_stars_say_otherwise(science: Exposure, template: Exposure, by: str, device: Device) -> _Plan:
    """As it is, but where the stars do not coincide pixel by pixel and do under another map.

    by : what says that it is aligned
    """
    stars = _Stars.of(science, template, device)
    as_is = stars.under(_identity)
    if as_is.holds or min(len(stars.mine), len(stars.its)) < Fit.FEWEST:
        return _Plan(None)
    found = similar_or_mirrored(stars.mine, stars.its, template.shape)
    if found is None:
        return _Plan(None, f"{by} {as_is.said} pixel by pixel, nor under any map: taken as aligned")
    said = f"{by} {as_is.said} pixel by pixel: resampled by stars; {found.fit.said}"
    return stars.finished(found.place, found.fit, said)


@dataclass(frozen=True)
class _Stars:
    """The bright stars of science frame and template, and the shapes of the two."""

    mine: BrightStars
    its: BrightStars
    shape: tuple[int, int]
    template_shape: tuple[int, int]

    @classmethod
    def of(cls, science: Exposure, template: Exposure, device: Device) -> "_Stars":
        return cls(bright_stars(science, device), bright_stars(template, device), science.shape, template.shape)

    def under(self, place: Place) -> Fit:
        return agreement(place, self.mine, self.its, self.template_shape)

    def finished(self, place: Place, fit: Fit, note: str) -> _Plan:
        """The plan with what the stars still see amiss taken out of the map."""
        place, after = refined(place, fit, self.mine, self.its, self.shape, self.template_shape)
        if after is fit:
            return _Plan(place, note)
        return _Plan(
            place, f"{note}, {after.residual:.2f} px after a map of order {after.order} was fitted to them"
        )


def _identity(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(y, float), np.asarray(x, float)


def _difference(place: Place, shape: tuple[int, int]) -> float:
    """Median distance, pixels, between science pixels and where they lie in the template."""
    y, x = (a.ravel() for a in np.mgrid[0 : shape[0] - 1 : 9j, 0 : shape[1] - 1 : 9j])
    ty, tx = place(y, x)
    return float(np.median(np.hypot(ty - y, tx - x)))


def _through(here: Sky, there: Sky) -> Place:
    """The map through the sky; far away where the way back does not lead to the same pixel.

    A distortion's inverse is good over its own image only.
    """

    def place(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tx, ty = there.to_pixels(*here.to_sky(x, y))
        with np.errstate(invalid="ignore"):
            back_x, back_y = here.to_pixels(*there.to_sky(tx, ty))
            good = np.hypot(back_x - x, back_y - y) < 0.05
        return _continued(ty, good, y, x), _continued(tx, good, y, x)

    return place


def _away(here: Sky, there: Sky, science: Exposure, template: Exposure) -> str:
    """How far away two WCS put a template in which no science pixel lies; "" for one in which some do."""
    height, width = template.shape
    y, x = (a.ravel() for a in np.mgrid[0 : science.shape[0] - 1 : 17j, 0 : science.shape[1] - 1 : 17j])
    tx, ty = there.to_pixels(*here.to_sky(x, y))
    with np.errstate(invalid="ignore"):
        inside = (tx > -0.5) & (tx < width - 0.5) & (ty > -0.5) & (ty < height - 0.5)
    if inside.any():
        return ""
    away = np.hypot(tx - 0.5 * width, ty - 0.5 * height)
    return f"{np.median(away):.0f} px away" if np.isfinite(away).all() else "on the far side of the sky"


def _apart(here: Sky, there: Sky, science: Exposure, template: Exposure) -> str:
    """How two WCS differ, in words."""
    away = _away(here, there, science, template)
    if away:
        return f"the WCS put the template {away}"
    return f"the WCS differ by {_difference(_through(here, there), science.shape):.2f} px"


def _no_overlap(template: Exposure, away: str) -> NoOverlap:
    return NoOverlap(
        f"{template.name}: expected a template of the science frame's sky, got one whose WCS lies {away}"
    )


def _continued(values: np.ndarray, good: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values with those that are not good replaced by a plane through the good ones."""
    if good.all():
        return values
    if good.sum() < 3:
        return np.full(values.shape, -FAR)
    design = np.stack([np.ones(y.shape), y, x], -1)
    plane = np.linalg.lstsq(design[good], values[good], rcond=None)[0]
    return np.where(good, values, design @ plane)


# ---------------------------------------------------------------- the template read off
def _filled(template: Exposure, settings: Match, device: Device) -> tuple[Exposure, float]:
    """The template with cosmic rays marked, holes and saturated cores filled; the width of its stars, pixels.

    Before it is resampled: cosmic rays would look like stars, and holes would ring.  Raises NoStars.
    """
    stars = find_stars(template, template, settings, min(MARGIN, min(template.shape) // 6), device)
    psf = psf_of(template, stars, "template", device)
    found = mark_cosmic_rays(template, psf, suspects(template, psf, device))
    fill_cores(template, psf)
    width = stars.width("template")
    if found == 0:
        return template, width
    note = f"{found} cosmic-ray and hot pixels found before it was resampled"
    return dataclasses.replace(template, notes=(*template.notes, note)), width


def _resampled(
    science: Exposure, template: Exposure, sigma: float, plan: _Plan, device: Device, threads: int
) -> Exposure:
    assert plan.place is not None
    places = lattice(plan.place, science.shape)
    name = f"{template.held} as seen by {science.held}" if template.held and science.held else ""
    image, lost, mask = device.resample(
        template.image, template.unusable, template.mask, places, sigma, threads, (template.held, name)
    )
    if lost.all():
        raise NoOverlap(f"{template.name}: expected a template of the science frame's sky, got no pixel of it")
    mask[~lost] &= ~bit(*UNUSABLE)
    mask[lost & ~marked(mask, *UNUSABLE)] |= bit("NO_DATA")
    made = dataclasses.replace(
        template,
        frame=dataclasses.replace(template.frame, wcs=science.frame.wcs, psf=None),
        image=image,
        mask=mask,
        sky=_carried(template.sky, places),
        sky_variance=_carried(template.sky_variance, places),
        variance_known=False,
        resampled=True,
        held=name,
        notes=(*template.notes, *plan.notes, *_psf_note(template), *_cover_note(lost), *_error_note(places)),
    )
    mask[_flawed(image, sky_noise(made), flaw(sigma))] |= bit("SUSPECT")
    return made


def _flawed(image: np.ndarray, noise: float, share: float) -> np.ndarray:
    """Bool: pixels next to so bright a star that the interpolation's error may stand out of the noise."""
    return np.asarray(ndimage.maximum_filter(image, NEXT) * np.float32(share) > noise)


def _psf_note(template: Exposure) -> tuple[str, ...]:
    return () if template.frame.psf is None else ("its PSF is measured anew on the resampled pixels",)


def _cover_note(lost: np.ndarray) -> tuple[str, ...]:
    share = float(lost.mean())
    return (f"covers {1 - share:.0%} of the science frame",) if share > 0.05 else ()


def _error_note(places: Lattice) -> tuple[str, ...]:
    return (f"positions err by up to {places.error:.2f} px: the map is rough",) if places.error > AGREE else ()


def _carried(plane: Plane, places: Lattice) -> Plane:
    """A plane at the lattice's positions, times area: a level in flux a pixel, or the power of white noise."""
    if isinstance(plane, SmoothPlane):
        return _carried_smooth(plane, places)
    out = np.empty(places.shape, np.float32)
    for row in range(0, places.shape[0], CELL):
        y, x, area = places.cut(row, min(row + CELL, places.shape[0]), 0, places.shape[1])
        out[row : row + CELL] = plane.at(*_whole(y, x, plane.shape)) * area
    return DensePlane(out)


def _carried_smooth(plane: SmoothPlane, places: Lattice) -> SmoothPlane:
    cells = [max(4, round(n / CELL)) for n in places.shape]
    rows, columns = (
        np.rint((np.arange(cell) + 0.5) * n / cell - 0.5).astype(int)
        for n, cell in zip(places.shape, cells, strict=True)
    )
    y, x, area = (
        places.rows[rows] @ grid @ places.columns[:, columns] for grid in (places.y, places.x, places.area)
    )
    row, column = _whole(y, x, plane.shape)
    return SmoothPlane(plane.at(row.ravel(), column.ravel()).reshape(y.shape) * area, places.shape)


def _whole(y: np.ndarray, x: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Nearest pixels, those outside moved to the edge."""
    row, column = (np.rint(np.clip(a, 0, n - 1)).astype(int) for a, n in zip((y, x), shape, strict=True))
    return row, column

"""A real/bogus model: which features it looks at, and what each value of each adds to the log odds."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from gpudiff.model.provenance import canonical, digest
from gpudiff.model.tables import DO_NOT_ALERT_ALONE


@dataclass(frozen=True)
class Feature:
    """One number that a detection is judged by.

    direction : +1 when more of it can only speak for a real source, -1 against one, 0 when either may be
    """

    name: str
    direction: int
    meaning: str


_F = Feature
FEATURES: tuple[Feature, ...] = (
    _F("snr", 1, "log10 of the matched filter's signal to noise"),
    _F("chi2", -1, "log10 of the reduced chi2 of the PSF fit"),
    _F("unexplained", -1, "chi2 beyond the pixels' number, over the squared signal to noise"),
    _F("size", 0, "log10 of the second moments' sum over the PSF's; of a trail no value"),
    _F("elongation", 0, "ellipticity of the second moments less the PSF's; of a trail no value"),
    _F("sharpness", 0, "middle pixel over the mean of its neighbours, against the PSF's; of a trail no value"),
    _F("aperture", 0, "aperture flux over PSF flux; of a trail no value"),
    _F("dipole", -1, "balance of the two lobes: 1 when equal, 0 for one lobe or none fitted"),
    _F("dipole_fit", -1, "how much better a dipole fits than a point source, of the reduced chi2"),
    _F("opposite", -1, "strongest score of the other sign within 7 px over the detection's own"),
    _F("noise", -1, "rms in a ring of 5 to 9 px, in sigmas"),
    _F("change", 1, "log10 of the share that the flux has in flux and template together"),
    _F("template", 0, "log10 of 1 + the brightest template pixel within 3 px, in sigmas"),
    _F("beside", -1, "log10 of 1 + the brightest template pixel within 10 px, in sigmas"),
    _F("distance", 0, "px from the brightest template pixel within 10 px; 15 where none has 5 sigma"),
    _F("masked", -1, "share of unusable or suspect pixels among 11 x 11"),
    _F("negative", 0, "1 where it is fainter than in the template"),
    _F("trailed", 0, "1 where a trail was fitted"),
    *(_F(name, -1, f"1 where the flag {name} is set") for name in DO_NOT_ALERT_ALONE),
)
"""In the order of the columns of `science.reliability_features.features`."""
BASELINE = "snr", "size", "sharpness", "elongation"
"""What a plain model looks at: signal to noise and shape.  The model in use must beat it."""


@dataclass(frozen=True)
class Curve:
    """What one feature adds to the log odds: `values` at `knots` (rising), straight between, level beyond.

    missing : what is added where the feature is NaN
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]
    missing: float


@dataclass(frozen=True)
class ReliabilityModel:
    """log odds of being real = intercept + the sum of the curves; then calibrated.

    curves : feature name -> Curve; names of FEATURES
    calibration : from these log odds to those of the share that is real, measured on frames by curves that
        were not fitted to them; straight beyond its ends too, `missing` is not used
    version : as alerts publish it; training : digest of the features and labels it was made from
    real, bogus : how many of each that was: a reliability is a probability where they come in such a mix
    """

    version: str
    training: str
    intercept: float
    curves: dict[str, Curve]
    calibration: Curve
    real: int
    bogus: int

    @cached_property
    def digest(self) -> str:
        """Hex digest of all that a reliability depends on; made once, for it takes as long as rating a frame."""
        return digest(canonical(dataclasses.asdict(self)))

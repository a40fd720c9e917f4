"""A filter of the mini-broker: who wants which alerts, sent where, and within which limits."""

import dataclasses
from dataclasses import dataclass

from gpudiff.model.outgoing import OUTGOING
from gpudiff.model.provenance import canonical, digest

VERSION = "1"
"""Of the language that `where` is written in: part of each filter's step of provenance."""


@dataclass(frozen=True)
class Filter:
    """One declared filter.

    where : the expression that an alert must fulfil (science.filters); sink : URL of where its matches go
    quota : most alerts of one visit that are sent; largest_match_rate : share of recorded alerts above which
        `gpudiff filter check` refuses it; time_limit_ms : CPU time for one batch, beyond which it is switched off
    """

    name: str
    owner: str
    where: str
    sink: str
    quota: int = 20
    largest_match_rate: float = 0.05
    time_limit_ms: float = 50.0

    @property
    def digest(self) -> str:
        """Hex digest of all its fields."""
        return digest(canonical(dataclasses.asdict(self)))


TYPES: dict[str, str] = {
    c.name: "text" if c.dtype[0] == "U" or c.name == "kind" else "yes-or-no" if c.dtype == "?" else "number"
    for c in OUTGOING
}
"""Column -> its type in an expression: number, text or yes-or-no."""

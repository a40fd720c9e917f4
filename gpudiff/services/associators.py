"""The associators that share the sky, as one differencer sees them: who has what, who is there, who is behind."""

import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from gpudiff.edges.transport import ClientKeys
from gpudiff.edges.wire_header import Header
from gpudiff.model.frame import FrameId
from gpudiff.model.next_visit import NextVisit
from gpudiff.model.regions import Regions
from gpudiff.services.handover import route
from gpudiff.services.herald import Herald

REMEMBERED = 1000
"""Announced visits of which is known whom they were told to."""
AGAIN_S = 5.0
"""An associator that hung is tried again so long after, with one frame."""


class Associators:
    """A herald to each.  One visit is one associator's (its boresight decides), so each sums up whole visits."""

    def __init__(self, regions: Regions, keys: Mapping[str, ClientKeys | None] = MappingProxyType({})):
        """keys : endpoint -> the keys to connect with"""
        self.regions = regions
        self._heralds = {one: Herald(one, keys.get(one)) for one in regions.endpoints}
        self._levels = dict.fromkeys(regions.endpoints, 0)
        self._told: OrderedDict[int, str] = OrderedDict()
        self._hung: dict[str, float] = {}

    def close(self) -> None:
        """Close the connections."""
        for one in self._heralds.values():
            one.close()

    def route(self, header: Header) -> str:
        """The endpoint of the associator that has a frame."""
        return route(self.regions, header)

    # ------------------------------------------------------------ what they are told
    def visit(self, said: NextVisit) -> None:
        """A visit was announced, changed or cancelled: tell the one that has it, and one that had it before."""
        for number in said.supersedes:
            known = self._told.pop(number, None)
            for one in [known] if known else self._heralds:
                self._heralds[one].end(number, "SUPERSEDED", f"by visit {said.visit}")
        home = self.regions.of(said.ra, said.dec)
        before = self._told.pop(said.visit, home)
        if before != home:
            self._heralds[before].end(said.visit, "CANCELLED", "it moved to the sky of another associator")
        self._heralds[home].visit(replace(said, supersedes=()))
        if said.horizon == "next" and not said.cancelled:
            self._told[said.visit] = home
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    def failed(self, frame: FrameId, reason: str, to: str) -> None:
        """A frame became a dead letter.  to : the associator that would have had it"""
        self._heralds[to].failed(frame, reason)

    # ------------------------------------------------------------ what they say
    def listen(self) -> None:
        """Take in what they have said; one that is gone is not busy."""
        for endpoint, herald in self._heralds.items():
            told = herald.listen()
            if told is not None:
                self._levels[endpoint] = told
            if not herald.connected:
                self._levels[endpoint] = 0

    def ask(self) -> None:
        """Have those that leave anything out say how much by now."""
        for endpoint, level in self._levels.items():
            if level:
                self._heralds[endpoint].ask()

    @property
    def level(self) -> int:
        """How many steps (services.load) the busiest one leaves out."""
        return max(self._levels.values())

    def leaving_out(self, step: int) -> frozenset[str]:
        """Those that leave out this step (services.load)."""
        return frozenset(one for one, level in self._levels.items() if level >= step)

    def answered(self, endpoint: str, level: int) -> None:
        """It has committed a frame, and said how much it leaves out."""
        self._levels[endpoint] = level
        self._hung.pop(endpoint, None)

    def gave_up(self, endpoint: str) -> None:
        """A worker has waited for it in vain."""
        self._hung[endpoint] = time.monotonic()

    def closed(self, busy: Collection[str]) -> frozenset[str]:
        """Those whose frames must wait now, so that they hold up no worker; none where there is only one.

        busy : those for which a worker has a frame.  One that is not connected is closed, and one that hung, but
        for a single frame now and then.
        """
        if not self.regions.several:
            return frozenset()
        now = time.monotonic()
        hung = {one for one, at in self._hung.items() if one in busy or now - at < AGAIN_S}
        return frozenset(hung | {one for one, herald in self._heralds.items() if not herald.connected})

    def report(self) -> dict[str, dict[str, Any]]:
        """Of each: whether it is connected, why it does not let us in ('' when it does)."""
        return {
            endpoint: {"connected": one.connected, "refused": one.refused}
            for endpoint, one in self._heralds.items()
        }

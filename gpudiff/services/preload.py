"""Templates read before their frames come: of announced visits, then of the sky in reach after them."""

import os
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from gpudiff.edges.focal_plane import read_focal_plane
from gpudiff.edges.template_index import Entry
from gpudiff.edges.templates import TemplateStore
from gpudiff.model.clock import tai_now
from gpudiff.model.footprint import footprints
from gpudiff.model.next_visit import NextVisit
from gpudiff.model.schedule import Plan
from gpudiff.science.reachable import CELL_RADIUS, reachable
from gpudiff.services.schedule import Schedule
from gpudiff.services.settings import Settings

PIECE = 1 << 20
"""Bytes that are read at a time."""
VISITS = 2000
"""Visits whose templates are kept in mind, so that a plan that changes every second is not looked up anew."""
AGAIN_S = 60.0
"""What can be reached is looked at again so long after nothing changed."""


class Preloader:
    """A thread that reads the files of templates into the machine's page cache, from where workers map them.

    The most urgent come first, and a change of the plan is acted on after the file at hand.  What is kept warm
    is bounded by `telescope.warm_bytes`: of what is not wanted now, what was used longest ago goes first.
    """

    def __init__(self, settings: Settings, schedule: Schedule):
        """Raises InputRejected for a focal plane that cannot be read."""
        self.settings, self.schedule = settings, schedule
        self.telescope = settings.configuration.telescope
        self.plane = read_focal_plane(self.telescope.focal_plane) if self.telescope.focal_plane else None
        self._warm: OrderedDict[str, tuple[Entry, float]] = OrderedDict()
        self._visits: OrderedDict[NextVisit, list[Entry]] = OrderedDict()
        self._after: tuple[Any, float, list[Entry], Iterator[Entry]] = (None, 0.0, [], iter(()))
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="preloader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the piece at hand."""
        with self.schedule.changed:
            self._stopping = True
            self.schedule.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def before(self, template: str, moment: float) -> bool:
        """Whether a template (a path) had been read by a moment of time.monotonic()."""
        entry, at = self._warm.get(template, (None, float("inf")))
        return entry is not None and at <= moment

    def wanted(self, store: TemplateStore, plan: Plan, last: NextVisit | None) -> Iterator[Entry]:
        """The templates that may be needed, the most urgent first; some more than once."""
        visits = plan.in_order()
        for visit in visits:
            yield from self._of(store, visit)
        coming = [visit for visit in visits if visit.horizon == "next"]
        after = max(coming, key=lambda visit: visit.start_tai, default=last)
        if after is not None:
            yield from self._in_reach(store, after)

    def _run(self) -> None:
        settings = self.settings
        store = TemplateStore(settings.templates, settings.configuration.instrument, index=settings.index)
        while not self._stopping:
            with self.schedule.changed:
                version, plan, last = self.schedule.version, self.schedule.plan, self.schedule.last
            try:
                self._fill(store, plan, last, version)
                if not self._changed(version) and store.rescan():
                    self._visits.clear()
            except Exception:  # frames are late by that, not lost: each template is read when its frame comes
                traceback.print_exc()
                self._changed(version)
        store.close()

    def _changed(self, version: int) -> bool:
        """Wait for another plan, or the end; False when there was none for AGAIN_S."""
        with self.schedule.changed:
            return self.schedule.changed.wait_for(
                lambda: self._stopping or self.schedule.version != version, AGAIN_S
            )

    def _fill(self, store: TemplateStore, plan: Plan, last: NextVisit | None, version: int) -> None:
        """Read what is wanted until the budget is full or the plan has changed."""
        now: set[str] = set()
        used = 0
        for entry in self.wanted(store, plan, last):
            path = str(store.folder / entry.path)
            if path in now:
                continue
            if self._stopping or self.schedule.version != version or used + entry.size > self.telescope.warm_bytes:
                return
            now.add(path)
            used += entry.size
            if path in self._warm and self._warm[path][0].mtime == entry.mtime:
                self._warm.move_to_end(path)
            elif _read(path):
                self._warm[path] = entry, time.monotonic()
            self._forget(now)

    def _forget(self, now: set[str]) -> None:
        total = sum(entry.size for entry, _ in self._warm.values())
        for path in [path for path in self._warm if path not in now]:
            if total <= self.telescope.warm_bytes:
                return
            total -= self._warm.pop(path)[0].size
            _let_go(path)

    def _of(self, store: TemplateStore, visit: NextVisit) -> list[Entry]:
        """The templates of a visit: the best for each detector's footprint, or all of its circle."""
        if visit not in self._visits:
            found: list[Entry] = []
            for band in visit.band.split() or [""]:
                found += self._in_band(store, visit, band)
            self._visits[visit] = found
            while len(self._visits) > VISITS:
                self._visits.popitem(last=False)
        return self._visits[visit]

    def _in_band(self, store: TemplateStore, visit: NextVisit, band: str) -> list[Entry]:
        where = visit.ra, visit.dec
        if self.plane is None:
            return store.index.within(*where, self.telescope.field_radius, band)
        scale = self.telescope.plate_scale
        wanted = footprints(self.plane, *where, visit.rotation_deg, scale, band, visit.detectors)
        return [entry for one in wanted if (entry := store.best(one)) is not None]

    def _in_reach(self, store: TemplateStore, visit: NextVisit) -> Iterator[Entry]:
        """`_reached`, of which what was found before the plan changed is not looked up again."""
        key, now = (visit.ra, visit.dec, visit.band), time.monotonic()
        if self._after[0] != key or now - self._after[1] > AGAIN_S:
            self._after = key, now, [], self._reached(store, visit)
        _, _, found, more = self._after
        yield from found
        for entry in more:
            found.append(entry)
            yield entry

    def _reached(self, store: TemplateStore, visit: NextVisit) -> Iterator[Entry]:
        """The templates of the sky that can be reached after a visit, in its band, the soonest first."""
        reach = reachable(self.telescope, visit.ra, visit.dec, tai_now(), self.telescope.ahead_s)
        for ra, dec in zip(reach.ra, reach.dec, strict=True):
            yield from store.index.within(float(ra), float(dec), CELL_RADIUS, visit.band)


def _read(path: str) -> bool:
    """Read a file to its end for the page cache's sake; False when it is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            piece = bytearray(PIECE)
            while file.readinto(piece):
                pass
    except OSError:
        return False
    return True


def _let_go(path: str) -> None:
    """Tell the system that a file's pages are not needed; those that a worker has mapped stay."""
    try:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass

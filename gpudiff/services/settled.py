"""Frames whose detections have been told what they are, before their alerts are made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isnan

import numpy as np

from gpudiff.model.association import NEW, Association
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.frame import FrameId, Observation
from gpudiff.model.tables import Table
from gpudiff.science.solar_system import Sight
from gpudiff.services.known_sky import KnownSky


@dataclass(frozen=True)
class Revision:
    """What a frame's new revision takes back: ids of objects that lose detections, and what is left of them."""

    number: int
    withdrawn: list[int]
    rebuilt: Table


@dataclass(frozen=True)
class Settled:
    """A frame and what became of its detections.

    held : why its alerts must not leave yet, '' when they may; delayed : it came after it was given up
    seen : what is known of the Solar System objects among its detections, None where there are none
    """

    batch: DetectionBatch
    association: Association
    revision: Revision
    held: str
    delayed: bool
    seen: Sight | None

    @property
    def frame(self) -> FrameId:
        """Which one."""
        return self.batch.observation.frame

    def objects(self) -> set[int]:
        """Ids of the objects of which there is more to tell after this frame."""
        ids = self.association.object_ids
        return {*ids[ids > 0].tolist(), *self.batch.forced["diaObjectId"].tolist()}


def runs(batches: Mapping[int, DetectionBatch], known: Callable[[FrameId], bool]) -> Iterator[list[int]]:
    """The numbers of those that may be taken together: of one exposure, each frame there for the first time.

    known : whether a frame is in the ledger; asked for each when those before it have been taken
    """
    run: list[int] = []
    frames: set[FrameId] = set()
    for n, one in batches.items():
        frame = one.observation.frame
        if run and (frame in frames or not _at_once(one.observation, batches[run[0]].observation)):
            yield run
            run, frames = [], set()
        if not known(frame):
            run.append(n)
            frames.add(frame)
            continue
        if run:
            yield run
            run, frames = [], set()
        yield [n]
    if run:
        yield run


def _at_once(one: Observation, other: Observation) -> bool:
    """Whether two frames are of one visit and of one time: what moves is predicted once for both."""
    times = ((one.midpoint_mjd_tai, other.midpoint_mjd_tai, 1 / 86400), (one.exposure_s, other.exposure_s, 1.0))
    same = (abs(a - b) <= within or (isnan(a) and isnan(b)) for a, b, within in times)
    return one.frame.visit == other.frame.visit and all(same)


def with_free_ids(found: Association, frame: FrameId, sky: KnownSky) -> Association:
    """New objects under ids that no object has.

    A source's own id is taken when an earlier revision of the frame made an object of that name which
    other frames have joined; then ids are counted down from the last one the frame could have given.
    """
    ids = found.object_ids.copy()
    free = frame.visit << 24 | frame.detector << 16 | 0xFFFF
    given = set(ids.tolist())
    for row in np.flatnonzero((found.kind == NEW) & sky.has(ids)):
        while free in sky or free in given:
            free -= 1
        ids[row] = free
        given.add(free)
    return replace(found, objects=found.objects.replace(diaObjectId=ids))


def without_new_objects(found: Association) -> Association:
    """The same, but what is new makes no DIAObject: it belongs to nothing."""
    ids = np.where(found.kind == NEW, 0, found.object_ids)
    return replace(found, objects=found.objects.replace(diaObjectId=ids))

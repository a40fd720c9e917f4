"""Forced photometry that was put off under load: which files wait, in what order they are made up."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from gpudiff.edges import put_off
from gpudiff.edges.folder import make
from gpudiff.model.errors import GpudiffError, UnreadableFile
from gpudiff.model.frame import FrameId
from gpudiff.services import log


@dataclass
class Owed:
    """A frame whose forced photometry waits in a file.

    size : bytes; associator : the endpoint of the one that has the frame; tries : how often a worker had it
    """

    frame: FrameId
    path: Path
    size: int
    associator: str
    tries: int = 0


class Backlog:
    """The files of one differencer: those that wait, first come first, and those that workers have.

    A frame's file is written before its detections are committed, so that a crash in between loses nothing: what
    belongs to no committed frame is refused by the associator, or replaced when the frame comes again.
    """

    def __init__(self, folder: Path, room: int, route: Callable[[float, float], str]):
        """Takes up what an earlier run left; what cannot be read is removed, and counted in `dropped`.

        room : bytes; route : (ra, dec) -> the associator that has a frame.  Raises StoreFailed.
        """
        self.folder, self.room, self.dropped = folder, room, 0
        self._waiting: OrderedDict[FrameId, Owed] = OrderedDict()
        self._in_hand: dict[FrameId, Owed] = {}
        make(folder)
        for path in sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime):
            self._find(path, route)

    def _find(self, path: Path, route: Callable[[float, float], str]) -> None:
        if path.name.startswith("."):  # it was being written
            path.unlink(missing_ok=True)
            return
        try:
            said = put_off.about(path)
        except UnreadableFile as error:
            log.warn("forced dropped", error)
            path.unlink(missing_ok=True)
            self.dropped += 1
            return
        self.add(said["frame"], path.stat().st_size, route(said["ra"], said["dec"]))

    @property
    def full(self) -> bool:
        """Whether nothing more is to be put off now."""
        return self.bytes >= self.room

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(one.size for some in (self._waiting, self._in_hand) for one in some.values())

    def add(self, frame: FrameId, size: int, associator: str) -> None:
        """A frame was committed whose forced photometry was put off."""
        self._waiting[frame] = Owed(frame, put_off.path_in(self.folder, frame), size, associator)

    def next(self, closed: Collection[str]) -> Owed | None:
        """The first that can be made up, now in hand, its try counted.  closed : associators that must not be
        troubled."""
        for frame, one in self._waiting.items():
            if one.associator not in closed and frame not in self._in_hand:
                self._in_hand[frame] = self._waiting.pop(frame)
                one.tries += 1
                return one
        return None

    def again(self, owed: Owed) -> None:
        """It could not be made up now: it waits behind the others, but for a newer one of the frame."""
        del self._in_hand[owed.frame]
        self._waiting.setdefault(owed.frame, owed)

    def end(self, owed: Owed) -> None:
        """It was made up, or cannot be: its file goes, but for a newer one of the frame."""
        del self._in_hand[owed.frame]
        if owed.frame not in self._waiting:
            owed.path.unlink(missing_ok=True)

    def drop(self, owed: Owed, error: GpudiffError) -> None:
        """It cannot be made up: it is counted, and its file goes."""
        log.warn("forced dropped", error, owed.frame)
        self.dropped += 1
        self.end(owed)

    def forget(self, frame: FrameId) -> None:
        """The frame was measured, or refused, after it had been put off."""
        self._waiting.pop(frame, None)
        if frame not in self._in_hand:
            put_off.path_in(self.folder, frame).unlink(missing_ok=True)

    def report(self) -> dict[str, int]:
        """For status.json: how many frames wait, and bytes of their files."""
        return {"put_off": len(self._waiting) + len(self._in_hand), "put_off_bytes": self.bytes}

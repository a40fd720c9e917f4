"""Planes that stay in a device's memory from frame to frame, within a budget."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from gpudiff.arrays.device import Host, InOrder, Launcher


@dataclass
class _Plane:
    """ready : the event of its upload; users : those at work who read it"""

    array: Any
    ready: Any
    users: WeakSet = field(default_factory=WeakSet)


class Resident:
    """Device arrays by name, the least recently used of which leave when there is no room; for several threads.

    budget : bytes of all of them
    launcher : the device that they are on
    An array does not leave while anybody lives who found or kept it: its memory would be written to by the thread
    that sent it up while others read it.
    """

    def __init__(self, budget: int, launcher: Launcher | InOrder | None = None) -> None:
        self.budget, self.bytes, self.evicted = budget, 0, 0
        self._launcher = launcher or Host()
        self._planes: OrderedDict[str, _Plane] = OrderedDict()
        self._lock = threading.RLock()

    def __contains__(self, name: str) -> bool:
        return name in self._planes

    def find(self, name: str, user: Any) -> Any:
        """The array of that name, now the most recently used; None where there is none.

        What this thread's stream is given from now on comes after the array's upload, whoever sent it.
        """
        with self._lock:
            plane = self._planes.get(name)
            if plane is None:
                return None
            plane.users.add(user)
            self._planes.move_to_end(name)
        self._launcher.after(plane.ready)
        return plane.array

    def keep(self, name: str, array: Any, user: Any) -> None:
        """Keep an array, sent up by this thread, where it has room.  Nobody may write into it from now on."""
        with self._lock:
            if array.nbytes > self.budget or name in self._planes or not self._has_room(array.nbytes):
                return
            self._planes[name] = _Plane(array, self._launcher.mark(), WeakSet([user]))
            self.bytes += array.nbytes

    def evict(self) -> bool:
        """Let the least recently used go that nobody uses; False where there is none."""
        with self._lock:
            for name, plane in self._planes.items():
                if not plane.users:
                    del self._planes[name]
                    self.bytes -= plane.array.nbytes
                    self.evicted += 1
                    return True
            return False

    def _has_room(self, size: int) -> bool:
        """Whether `size` bytes more are within the budget, the least recently used let go for it."""
        while self.bytes + size > self.budget and self.evict():
            pass
        return self.bytes + size <= self.budget

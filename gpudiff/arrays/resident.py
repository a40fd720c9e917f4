"""Planes that stay in a device's memory from frame to frame, within a budget."""

from collections import OrderedDict
from typing import Any


class Resident:
    """Device arrays by name, the least recently used of which leave when there is no room.

    budget : bytes of all of them
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes, self.evicted = budget, 0, 0
        self._arrays: OrderedDict[str, Any] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def find(self, name: str) -> Any:
        """The array of that name, now the most recently used; None where there is none."""
        array = self._arrays.get(name)
        if array is not None:
            self._arrays.move_to_end(name)
        return array

    def keep(self, name: str, array: Any) -> None:
        """Keep an array, unless it alone is over the budget.  Nobody may write into it from now on."""
        if array.nbytes > self.budget or name in self._arrays:
            return
        self.make_room(array.nbytes)
        self._arrays[name] = array
        self.bytes += array.nbytes

    def make_room(self, size: int) -> None:
        """Let the least recently used go until `size` bytes more are within the budget."""
        while self._arrays and self.bytes + size > self.budget:
            self.evict()

    def evict(self) -> bool:
        """Let the least recently used go; False where there is none."""
        if not self._arrays:
            return False
        _, array = self._arrays.popitem(last=False)
        self.bytes -= array.nbytes
        self.evicted += 1
        return True

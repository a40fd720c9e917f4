"""Small things that stay from frame to frame, by name, within a budget; for several threads."""

import threading
from collections import OrderedDict
from typing import Any

BUDGET = 1 << 30
"""Bytes of all of them: of a thousand templates whose masks mark one pixel in a hundred."""


class Remembered:
    """Things by name, the least recently used of which are forgotten when there is no room.

    Nobody may change what is kept here.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.bytes = budget, 0
        self._things: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, name: str) -> Any:
        """The thing of that name, now the most recently used; None where there is none."""
        with self._lock:
            thing, _ = self._things.get(name, (None, 0))
            if thing is not None:
                self._things.move_to_end(name)
            return thing

    def keep(self, name: str, thing: Any, size: int) -> None:
        """Keep a thing of so many bytes, unless it is larger than all that may be kept."""
        with self._lock:
            if size > self.budget or name in self._things:
                return
            self._things[name] = thing, size
            self.bytes += size
            while self.bytes > self.budget:
                self.bytes -= self._things.popitem(last=False)[1][1]

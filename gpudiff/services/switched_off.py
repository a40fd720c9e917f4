"""What is told of filters that were switched off, by who reads the mini-broker's files: the associator's log and
metrics."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

FILE = "switched-off.jsonl"


class SwitchedOff:
    """The lines of a directory's switched-off.jsonl that have come since it was made."""

    def __init__(self, directory: Path):
        self.path = directory / FILE
        self._at = self._size()

    def news(self) -> Iterator[dict[str, Any]]:
        """Each filter switched off since last asked: filter, owner, reason, at_tai."""
        if self._size() <= self._at:
            return
        with open(self.path, "rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._at += len(line)
                with suppress(ValueError):  # one that a full disk cut short, and what followed it
                    yield json.loads(line)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

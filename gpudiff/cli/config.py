"""gpudiff config: check a configuration file, print what it comes to."""

import argparse
from pathlib import Path

DESCRIPTION = """\
Check a configuration file as a whole and print the configuration in effect: every section, every key, the
file's value or the default.  All that is wrong is named at once, and nothing is printed then (status 3).
"""
EXAMPLE = """\
examples:
  gpudiff config > gpudiff.toml          all defaults, to start from
  gpudiff config gpudiff.toml --check    says only what is wrong
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLE
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="TOML; none: the defaults")
    parser.add_argument("--check", action="store_true", help="print nothing when all is well")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.sinks import check
    from gpudiff.model.config import load, to_toml

    configuration = load(arguments.file)
    for url in configuration.service.sinks:
        check(url)
    if not arguments.check:
        print(to_toml(configuration), end="")
    return 0

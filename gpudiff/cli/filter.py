"""gpudiff filter: check declared filters, try an expression on recorded alerts, list the columns."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Filters say which alerts somebody wants: an expression over their columns.

  gpudiff filter list FILE                       the filters of a file; without FILE, the columns to filter on
  gpudiff filter example                         print a file of filters to start from
  gpudiff filter check FILE --archive DIR        refuse what is wrong, or matches too much of what was recorded
  gpudiff filter test EXPR --archive DIR --png SHEET.png
                                                 what it would have matched, with cutouts

An expression has columns, numbers, "texts", True, False; and, or, not; == != < <= > >=; in (..., ...); + - * /;
abs(), sqrt(), log10(), isnan(); flag("DIPOLE").  `kind` is "known", "tonight", "moving" or "new".
"""
EPILOG = """\
examples:
  gpudiff filter check filters.toml --archive service/alerts
  gpudiff filter test 'kind == "new" and snr > 15 and not flagged' --archive service --png sheet.png
"""
ROW = "{:>19} {:<8} {:>11} {:>11} {:>12} {:>7} {:>7}  {}"
HEAD = "diaSourceId", "kind", "ra", "dec", "flux", "snr", "rel", "flags"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    from gpudiff.cli.query import natural

    verbs = parser.add_subparsers(dest="verb", metavar="check|test|list|example", required=True)
    check = verbs.add_parser("check", help="validate a file, measure its match rates on an archive")
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--archive", type=Path, metavar="DIR", help="recorded alerts")
    test = verbs.add_parser("test", help="what an expression would have matched")
    test.add_argument("expression", metavar="EXPR")
    test.add_argument("--archive", type=Path, metavar="DIR", required=True, help="recorded alerts")
    test.add_argument("--png", type=Path, metavar="OUT", help="a sheet of the matches' cutouts (.png, .pdf, .svg)")
    test.add_argument("--most", type=natural, default=24, metavar="N", help="lines and cutouts (%(default)s)")
    verbs.add_parser("example", help="print a file of filters to start from")
    shown = verbs.add_parser("list", help="the filters of a file, or the columns to filter on")
    shown.add_argument("file", type=Path, nargs="?", metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    return {"check": _check, "test": _test, "list": _list, "example": _example}[arguments.verb](arguments)


def _check(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.sinks import check
    from gpudiff.model.errors import BadFilter
    from gpudiff.science.filters import columns_of, matches
    from gpudiff.services.broker import compiled
    from gpudiff.services.recorded import recorded

    filters = compiled(arguments.file)
    for one, _ in filters:
        check(one.sink)
    if arguments.archive is None:
        print(f"{arguments.file}: {len(filters)} filters, all well formed")
        return 0
    total, found = 0, dict.fromkeys((one.name for one, _ in filters), 0)
    for rows, _ in recorded(arguments.archive):
        columns, total = columns_of(rows), total + len(rows)
        for one, node in filters:
            found[one.name] += int(matches(node, columns).sum())
    for one, _ in filters:
        rate = found[one.name] / total
        limit = f"limit {one.largest_match_rate:.0%}"
        print(f"{one.name:<24} {found[one.name]:>7} of {total} alerts, {rate:.1%} ({limit})")
    broad = [one.name for one, _ in filters if found[one.name] > one.largest_match_rate * total]
    if broad:
        raise BadFilter(f"{arguments.file}: matches more of the recorded alerts than it may: {', '.join(broad)}")
    return 0


def _test(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.picture_alert import check_suffix
    from gpudiff.edges.picture_sheet import draw_sheet
    from gpudiff.services.recorded import alert_at

    if arguments.png:
        check_suffix(arguments.png)
    total, found = 0, []
    for rows, places, hit in _matched(arguments):
        total += len(rows)
        found += [(row, places[n]) for n, row in zip(hit.nonzero()[0], rows.take(hit).rows(), strict=True)]
    print(ROW.format(*HEAD).rstrip())
    for row, _ in found[: arguments.most]:
        print(_line(row))
    print(f"{len(found)} of {total} alerts match, {len(found) / total:.1%}")
    if arguments.png:
        shown = found[: arguments.most]
        titles = [f"{row['diaSourceId']}  snr {row['snr']:.1f}" for row, _ in shown]
        heading = f"{arguments.expression}: {len(found)} of {total} alerts"
        draw_sheet([alert_at(place) for _, place in shown], titles, heading, arguments.png)
        print(f"cutouts drawn to {arguments.png}")
    return 0


def _matched(arguments: argparse.Namespace) -> Iterator[tuple[Any, Any, Any]]:
    from gpudiff.science.filters import columns_of, compile_expression, matches
    from gpudiff.services.recorded import recorded

    node = compile_expression(arguments.expression)
    for rows, places in recorded(arguments.archive):
        yield rows, places, matches(node, columns_of(rows))


def _line(row: dict[str, Any]) -> str:
    from gpudiff.model.association import KINDS
    from gpudiff.model.tables import flag_names

    numbers = [f"{row['ra']:.6f}", f"{row['dec']:+.6f}", f"{row['psfFlux']:.6g}", f"{row['snr']:.1f}"]
    words = " ".join(flag_names(row["flags"]))
    return ROW.format(
        row["diaSourceId"], KINDS[row["kind"]], *numbers, f"{row['reliability']:.2f}", words
    ).rstrip()


def _list(arguments: argparse.Namespace) -> int:
    if arguments.file is None:
        from gpudiff.model.filters import TYPES
        from gpudiff.model.outgoing import OUTGOING

        for column in OUTGOING:
            print(f"{column.name:<22} {TYPES[column.name]:<10} {column.unit:<10} {column.description}")
        return 0
    from gpudiff.services.broker import compiled

    for one, _ in compiled(arguments.file):
        print(f"{one.name:<24} {one.owner:<28} {one.quota:>5} a visit to {one.sink}\n    {one.where}")
    return 0


def _example(arguments: argparse.Namespace) -> int:
    from importlib import resources

    print((resources.files("gpudiff.edges") / "example_filters.toml").read_text(), end="")
    return 0

"""The README's tables, made from source and bench/results/; `python tests/readme_tables.py` rewrites them.

Each stands between `<!-- NAME -->` and `<!-- end NAME -->`; test_readme.py compares.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import _measured
import _service_table
from _measured import table

from gpudiff.model import config, errors, mask, tables

README = Path(__file__).parents[1] / "README.md"
OPERATIONS = Path(__file__).parents[1] / "gpudiff" / "services" / "OPERATIONS.md"
COMMENT = re.compile(r"^    (\w+): .*?  # (.*)$", re.MULTILINE)


def configuration() -> str:
    """A TOML file with every section, every key, its default and the comment beside it in config.py."""
    source = Path(config.__file__).read_text()
    lines = []
    for section in dataclasses.fields(config.Configuration):
        kind = section.default_factory
        body = source.split(f"class {kind.__name__}:")[1].split("@dataclass")[0]
        comments = dict(COMMENT.findall(body))
        lines += ["", f"[{section.name}]"]
        for key in dataclasses.fields(kind):
            line = f"{key.name} = {json.dumps(key.default)}"
            lines.append(f"{line:<48}# {comments[key.name]}" if key.name in comments else line)
    return "\n".join(["```toml", *lines[1:], "```"])


def mask_planes() -> str:
    """Every mask plane, its bit, whether its pixels are unusable, its meaning."""
    return table(
        ("bit", "plane", "usable", "meaning"),
        (
            (bit, f"`{name}`", "no" if name in mask.UNUSABLE else "yes", mask.DESCRIPTIONS[name])
            for name, bit in mask.BITS.items()
        ),
    )


def source_flags() -> str:
    """Every source flag, its bit, whether it sets `flagged`, its meaning."""
    alone = tables.DO_NOT_ALERT_ALONE
    return table(
        ("bit", "flag", "sets `flagged`", "meaning"),
        (
            (bit, f"`{name}`", "yes" if name in alone else "no", tables.FLAG_DESCRIPTIONS[name])
            for name, bit in tables.FLAGS.items()
        ),
    )


def exit_statuses() -> str:
    """Every exit status and what it says."""
    said = {
        0: "done",
        errors.GpudiffError.exit_status: "good work at a bad moment (no answer, no credit): try again",
        2: "a bad command line",
        errors.InputRejected.exit_status: "input that is refused, or a GPU asked for that cannot be used",
        errors.MustStop.exit_status: "the program cannot go on: disk full, ledger or archive not writable",
        130: "interrupted from the keyboard",
    }
    return table(("status", "meaning"), said.items())


def metrics() -> str:
    """Every metric of both programs; stands in services/OPERATIONS.md."""
    from gpudiff.services.associator_metrics import AssociatorMetrics
    from gpudiff.services.metrics import Metrics

    found = []
    for program, registry in (("differencer", Metrics("").registry), ("associator", AssociatorMetrics().registry)):
        for collector in list(registry._collector_to_names):
            (family,) = collector.describe()
            labels = ", ".join(getattr(collector, "_labelnames", ()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found.append((f"`{name}`", family.type, labels, program, family.documentation))
    return table(("name", "type", "labels", "program", "meaning"), sorted(found))


TABLES = {
    "measured": _measured.markdown,
    "configuration": configuration,
    "mask planes": mask_planes,
    "source flags": source_flags,
    "exit statuses": exit_statuses,
}


def between(text: str, name: str) -> str:
    """What stands between the two markers of a table, without the line breaks at its ends."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    return text.split(start, 1)[1].split(end, 1)[0].strip("\n")


def main() -> None:
    rewrite(README, TABLES)
    rewrite(OPERATIONS, {"metrics": metrics, "service": _service_table.markdown})


def rewrite(page: Path, tables: dict[str, Callable[[], str]]) -> None:
    """Put the tables into a page."""
    text = page.read_text()
    for name, made in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        head, rest = text.split(start, 1)
        text = f"{head}{start}\n{made()}\n{end}{rest.split(end, 1)[1]}"
    page.write_text(text)


if __name__ == "__main__":
    main()

"""The README's tables of what was measured, from the latest records in bench/results/."""

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


def latest(benchmark: str) -> Record:
    """The newest record of a benchmark, {} where there is none."""
    paths = sorted(RESULTS.glob(f"????-??-??-{benchmark}.json"))
    return json.loads(paths[-1].read_text()) if paths else {}


def markdown() -> str:
    """All tables, each under the line that says what, when and where."""
    made = (beside(latest("standard")), speed(latest("subtract_speed")), standard(latest("standard")))
    made += (scenes(latest("subtract_quality")), real(latest("real_data")))
    return "\n\n".join(part for part in made if part)


def beside(record: Record) -> str:
    """Perfect template, gpudiff and the peers on the same pairs."""
    peers = record.get("peers")
    if not peers:
        return ""
    head = ("", "found", "false", "chi of stars > 500 sigma", "left at them", "wall", "CPU")
    body = []
    for name, one in peers.items():
        cells = (number(one.get("star_chi_rms[>500]"), ".3f"), number(one.get("star_flux_leak_std[>500]"), ".2%"))
        cost = (number(one.get("wall_s"), ".1f", " s"), number(one.get("cpu_s"), ".1f", " s"))
        title = f"{name} {one['version']}".strip()
        body.append((title, f"{one['found']:.0f}", f"{one['fp']:.0f}", *cells, *cost))
    pairs = max(one["pairs"] for one in peers.values())
    said = "A simulated pair" if pairs == 1 else f"{pairs} simulated pairs"
    return f"{said} of 1024 x 1024 px, `bench/standard.py`, {where(record)}:\n\n{table(head, body)}"


def speed(record: Record) -> str:
    """Whole command by size, and how much longer the peers take."""
    rows = record.get("rows")
    if not rows:
        return ""
    body = []
    for row in rows:
        ratio = [f"{row['ratio'][key]:.0f} x" if "ratio" in row else "" for key in ("wall_s", "cpu_s", "peak_mb")]
        cost = f"{row['wall_s']:.1f} s", f"{row['cpu_s']:.1f} s", f"{row['peak_mb'] / 1024:.2f} GB"
        body.append((row["size"], row["name"], *cost, *ratio))
    head = ("px", "", "wall", "CPU", "memory", "over gpudiff's: wall", "CPU", "memory")
    said = f"One pair, from the start of the command to closed files, medians of {record['repeats']} runs"
    return f"{said}, `bench/subtract_speed.py`, {where(record)}:\n\n{table(head, body)}"


def standard(record: Record) -> str:
    """The standard table: medians over the seeds, with verdicts."""
    tables = {size: record["tables"][size] for size in sorted(record.get("tables", ()), key=int)}
    if not tables:
        return ""
    head = ["", "goal"] + [f"{size} px (perfect)" for size in tables]
    by_size = [{row["name"]: row for row in rows} for rows in tables.values()]
    body = []
    for name in by_size[0]:
        wanted = dict.fromkeys(rows[name]["wanted"] for rows in by_size)
        body.append((name, " / ".join(filter(None, wanted)), *(_verdict(rows[name]) for rows in by_size)))
    seeds = len(record["seeds"].split(","))
    said = f"The standard scene, medians of {seeds} pairs that nobody tuned on, stars left out of the fit"
    made = table(head, body) + _injected(record.get("injections"))
    return f"{said}, `bench/standard.py`, {where(record)}:\n\n{made}"


def _injected(made: Record | None) -> str:
    if not made:
        return ""
    bias = f"flux bias {made['bias_percent']:.2f} +- {made['bias_error']:.2f} % (goal 0.5, {made['bias_verdict']})"
    width = f"{made['pull_width']:.3f} +- {made['pull_width_error']:.3f} (goal 1 +- 0.03, {made['pull_verdict']})"
    sources = f"{made['injections']} injections of signal to noise 8 to 60"
    return f"\n\n{sources}: {bias}, width of (flux - true) / error {width}."


def _verdict(row: Record) -> str:
    perfect = f" ({row['perfect']:.4g})" if row["perfect"] is not None else ""
    said = f", {row['verdict']}" if row["verdict"] else ""
    return f"{number(row['median'], '.4g')}{perfect}{said}"


def scenes(record: Record) -> str:
    """The hard scenes and what of their goals was not reached."""
    rows = record.get("summary")
    if not rows or "missed" not in rows[0]:
        return ""
    head = ("scene", "found (perfect)", "false (on artefacts)", "score std", "flux bias, %", "goals")
    body = []
    for row in rows:
        missed = "; ".join(row["missed"]) or "pass"
        if "found" not in row:
            body.append((row["scene"], "", "", "", "", missed))
            continue
        found = f"{row['found']:g} ({row['perfect_found']:g})"
        bias = number(row["bias_percent"], ".2f")
        bias += f" +- {row['bias_error_percent']:.2f}" if bias else ""
        false = f"{row['false']:g} ({row['false_on_artefact']:g})"
        body.append((row["scene"], found, false, f"{row['score_std']:.3f}", bias, missed))
    said = f"Scenes made to be hard, {record['size']} px, medians over the seeds"
    return f"{said}, `bench/subtract_quality.py`, {where(record)}:\n\n{table(head, body)}"


def real(record: Record) -> str:
    """Real frames."""
    if not record:
        return ""
    rubin, decam, eso, likely = record["rubin"], record["decam"], record["eso"], record["ztf"]["likely real"]
    against = f"{decam['median_ratio']:.2f} x the peer's residuals, {decam['peaks'][0]} peaks of 5 sigma"
    variable = "found" if decam["variable_found"] else "missed"
    right = f"sign right for {likely['sign_unflagged']} of {likely['unflagged']} unflagged"
    both = " and ".join(f"{eso[way]['unflagged']} unflagged" for way in ("forth", "back"))
    body = [
        (
            "26 cutouts of survey alerts, PSFs given",
            f"{rubin['rms']:.2f} sigma rms from the observatory's difference, on the light of bright templates",
            "0.9 at most",
        ),
        (
            "DECam stacks with five bright stars",
            f"{against} to its {decam['peaks'][1]}; the variable {variable}",
            "fewer, fainter; found",
        ),
        ("a pair in which nothing changed, both ways", both, "2 at most"),
        (
            f"{likely['alerts']} alert cutouts, likely real, PSFs guessed",
            f"{likely['found']} found, {right}, flux {likely['flux_ratio']:.2f} x the alert's",
            "sign and flux",
        ),
    ]
    return f"Real frames, `bench/real_data.py`, {where(record)}:\n\n{table(('', 'measured', 'goal'), body)}"


def where(record: Record) -> str:
    """When and on what: two cores of something, and how busy they were."""
    busy = f", shared (load {record['load_average']:.1f})" if record["load_average"] > 2.5 else ""
    return f"{record['date'][:10]}, {record['device']}{busy}"


def number(value: float | None, form: str, unit: str = "") -> str:
    """Formatted, '' for a value that is not there."""
    return "" if value is None or not math.isfinite(value) else f"{value:{form}}{unit}"


def table(head: Any, body: Any) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)

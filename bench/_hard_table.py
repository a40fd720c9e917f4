"""What a hard scene has to reach, and what of it a run did not reach."""

from typing import Any

LESS_FOUND, MOST_FALSE, SCORE, BIAS, UNCHANGED = 3, 10, 0.02, 1.0, 2
"""Changes fewer than with a perfect template, unflagged false detections, score std off 1, percent of flux,
and unflagged detections where nothing changed: for every pair."""


TRAILS = (("length", "length within 15 %"), ("angle", "angle within 5 degrees"))


def missed(scene: str, pairs: list[dict[str, Any]], summary: dict[str, Any]) -> list[str]:
    """One phrase a goal that was not reached, the worst pair's figure in it; [] when the scene passes.

    pairs : from `measure`, one a seed; summary : over the seeds, for what one pair has too few of (fluxes, trails)
    """
    refused = [f"{pair['refused']} (exit status)" for pair in pairs if "refused" in pair]
    done = [pair for pair in pairs if "refused" not in pair]
    out = [f"refused {', '.join(refused)}"] if refused else []
    if not done:
        return out
    if scene == "nothing":
        return [*out, *_above("unflagged", [pair["false"] for pair in done], UNCHANGED), *_score(done)]
    fewer = [pair["perfect"]["found"] - pair["found"] for pair in done]
    out += _above("found, fewer than perfect", fewer, LESS_FOUND)
    out += _above("false", [pair["false"] for pair in done], MOST_FALSE)
    out += _above("unflagged on artefacts", [pair["false_on_artefact"] for pair in done], 0)
    return [*out, *_score(done), *_bias(summary), *_trails(summary)]


def _above(name: str, values: list[int], most: int) -> list[str]:
    return [f"{name} {max(values)}, at most {most}"] if max(values) > most else []


def _score(pairs: list[dict[str, Any]]) -> list[str]:
    worst = max((pair["score_std"] for pair in pairs), key=lambda value: abs(value - 1))
    return [] if abs(worst - 1) <= SCORE else [f"score std {worst:.3f}, 1 +- {SCORE}"]


def _bias(summary: dict[str, Any]) -> list[str]:
    """Not reached when the bias exceeds the goal; a bias without a value (no bright sources) says nothing."""
    bias = summary.get("bias_percent", float("nan"))
    error = summary.get("bias_error_percent", float("nan"))
    return [f"flux bias {bias:.2f} +- {error:.2f} %, below {BIAS:g} %"] if abs(bias) >= BIAS else []


def _trails(summary: dict[str, Any]) -> list[str]:
    if "trails" not in summary:
        return []
    whole, once = summary["trails_whole"], summary["trails_whole_once"]
    out = [f"trails found once: {once} of {whole}"] if once < whole else []
    for name, words in TRAILS:
        number, allowed, perfect = (summary[f"trails_{name}{of}"] for of in ("", "_allowed", "_perfect"))
        if number < whole:
            out.append(f"trails' {words}: {number} of {whole} (the noise allows {allowed}, perfect {perfect})")
    return out

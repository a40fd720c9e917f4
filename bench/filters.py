"""100 filters over 10,000 alerts.  Goal: 0.5 s at most.  The peer: the same as Python predicates, row by row.

Both must pick the same alerts of every filter before anything is timed.  The broker's figure is the whole of
`Broker.publish`: expressions, quotas, and the matches' batches handed to sinks that keep nothing.
"""

import tempfile
from pathlib import Path
from typing import Any

import _common as common
import numpy as np

from gpudiff.model.association import KINDS
from gpudiff.model.outgoing import OUTGOING, Delivery, OutgoingBatch
from gpudiff.model.tables import Table
from gpudiff.science.filters import columns_of, compile_expression, matches
from gpudiff.services.broker import Broker

ALERTS, FILTERS, GOAL_S = 10_000, 100, 0.5


class Nowhere:
    """A sink that takes everything."""

    name = "nowhere"

    def publish(self, batch: OutgoingBatch) -> Delivery:
        return Delivery(len(batch))

    def close(self) -> None:
        pass


def rows(seed: int) -> Table:
    """Alerts of one visit with plausible columns."""
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {c.name: np.zeros(ALERTS, c.dtype) for c in OUTGOING}
    flux, kind = random.normal(0, 1000, ALERTS), random.integers(0, 4, ALERTS)
    values |= {
        "visit": np.full(ALERTS, 7),
        "snr": 5 + random.exponential(10, ALERTS).astype("f4"),
        "psfFlux": flux,
        "psfFluxErr": np.full(ALERTS, 50, "f4"),
        "isNegative": flux < 0,
        "reliability": random.random(ALERTS, "f4"),
        "flagged": random.random(ALERTS) < 0.3,
        "kind": kind,
        "band": random.choice(list("griz"), ALERTS),
        "nDiaSources": random.integers(1, 30, ALERTS),
        "dec": random.uniform(-40, -20, ALERTS),
    }
    return Table(OUTGOING, values)


def expressions() -> list[str]:
    """So many different ones, of six terms each; they are Python too."""
    return [
        f'reliability > {0.5 + n / 250} and not flagged and kind == "{KINDS[n % 4]}"'
        f' and band in ("g", "{"riz"[n % 3]}")'
        f" and abs(psfFlux) > {3 + n / 10} * psfFluxErr and (snr > {8 + n / 20} or nDiaSources >= {2 + n % 7})"
        for n in range(FILTERS)
    ]


def peer(texts: list[str], table: Table) -> list[np.ndarray]:
    """Which rows each Python predicate picks, one row after the other."""
    alerts = [{**row, "kind": KINDS[row["kind"]], "abs": abs} for row in table.rows()]
    made = [eval(f"lambda a: {_of_row(text)}") for text in texts]
    return [np.array([bool(one(alert)) for alert in alerts]) for one in made]


def _of_row(text: str) -> str:
    for name in ("reliability", "flagged", "kind", "band", "psfFluxErr", "snr", "nDiaSources"):
        text = text.replace(name, f'a["{name}"]')
    return text.replace("psfFlux)", 'a["psfFlux"])')


def timed(work: Any, times: int) -> tuple[float, Any]:
    """(median seconds, the last result)."""
    made: list[Any] = []
    return common.median_s(lambda: made.append(work()), times), made[-1]


def main() -> None:
    options = common.arguments(__doc__).parse_args()
    table, texts = rows(1), expressions()
    nodes = [compile_expression(text) for text in texts]
    theirs_s, theirs = timed(lambda: peer(texts, table), 1)
    ours_s, ours = timed(lambda: [matches(node, columns) for columns in [columns_of(table)] for node in nodes], 5)
    for text, one, other in zip(texts, ours, theirs, strict=True):
        if not (one == other).all():
            raise SystemExit(f"not the same alerts: {text}")
    broker_s = _broker(texts, table)
    said = "pass" if broker_s <= GOAL_S else "FAIL"
    print(
        f"{FILTERS} filters, {ALERTS} alerts, {sum(map(sum, ours))} matches, the same from both; {common.device()}"
    )
    print(f"  expressions alone           {ours_s:.3f} s")
    print(f"  the broker, quotas and all  {broker_s:.3f} s  (goal {GOAL_S} s, {said})")
    print(f"  Python row by row           {theirs_s:.3f} s  ({theirs_s / broker_s:.0f} x)")
    figures = {"expressions_s": ours_s, "broker_s": broker_s, "peer_s": theirs_s}
    common.record(__file__, {"alerts": ALERTS, "filters": FILTERS, **figures}, options)


def _broker(texts: list[str], table: Table) -> float:
    """Median seconds of a batch, each of another visit so that no quota is used up."""
    batch = OutgoingBatch(table, [b"alert"] * ALERTS, "{}", 101, "0" * 32)
    batches = iter(
        [
            OutgoingBatch(table.replace(visit=np.full(ALERTS, 7 + n)), batch.alerts, "{}", 101, "0" * 32)
            for n in range(5)
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "filters.toml"
        path.write_text(
            "".join(
                f'[[filter]]\nname = "f{n}"\nowner = "me"\nsink = "nowhere"\nwhere = \'{text}\'\n'
                for n, text in enumerate(texts)
            )
        )
        broker = Broker(path, Path(folder), lambda url: Nowhere())
        return timed(lambda: broker.publish(next(batches)), 5)[0]


if __name__ == "__main__":
    main()

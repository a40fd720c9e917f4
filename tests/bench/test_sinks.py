"""bench/sinks.py: as many alerts are sent as were asked for."""

import sys


def test_fewer_alerts_than_a_batch_are_one_batch(bench, monkeypatch):
    script, seen = bench("sinks"), []

    def timed(batch, *words) -> tuple[float, float]:
        seen.append((len(batch), words[-1]))
        return 1.0, 1.0

    monkeypatch.setattr(sys, "argv", ["sinks.py", "--alerts", "5", "--no-record"])
    monkeypatch.setattr(script, "over_zeromq", timed)
    monkeypatch.setattr(script, "over_kafka", timed)
    script.main()
    assert seen == [(5, 1)] * 3

"""The clock: MJD TAI from the system's UTC."""

import time

import pytest

from gpudiff.model import clock


def test_a_known_second_has_the_tai_that_astropy_gives_it(monkeypatch):
    time_of = pytest.importorskip("astropy.time").Time
    monkeypatch.setattr(clock.time, "time", lambda: 1_795_340_193.25)
    expected = time_of(1_795_340_193.25, format="unix").tai.mjd
    assert clock.tai_now() == pytest.approx(expected, abs=1e-11)  # days; a microsecond is 1.2e-11


def test_the_clock_runs_forward():
    before = clock.UNIX_EPOCH_MJD + time.time() / 86400
    assert clock.tai_now() - before >= clock.TAI_MINUS_UTC_S / 86400 - 1e-10

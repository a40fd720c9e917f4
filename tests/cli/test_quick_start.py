"""Beginning sooner; that nothing is missing then is tested with `gpudiff subtract`."""

import builtins
import sys

from gpudiff.cli.quick_start import leave_out_units


def test_an_astropy_that_needs_more_of_its_units_gets_them(monkeypatch):
    def needs_more(name, *rest):
        if name == "astropy.utils.data":
            raise AttributeError("module 'astropy.units' has no attribute 'byte'")
        return plain(name, *rest)

    plain = builtins.__import__
    monkeypatch.delitem(sys.modules, "astropy.units", raising=False)
    monkeypatch.setattr(builtins, "__import__", needs_more)
    leave_out_units()
    assert "astropy.units" not in sys.modules

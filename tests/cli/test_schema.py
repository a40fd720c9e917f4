"""gpudiff schema."""

import json

import pytest

from gpudiff.__main__ import main
from gpudiff.edges.alert_schema import VERSION, alert_schema


def test_the_schema_is_printed_as_json(capsys):
    assert main(["schema", "alert"]) == 0
    assert json.loads(capsys.readouterr().out) == alert_schema()


@pytest.mark.parametrize(("which", "more"), [("alert", 0), ("notice", 10_000)])
def test_the_number_is_major_times_a_hundred_and_minor(which, more, capsys):
    main(["schema", which, "--id"])
    assert int(capsys.readouterr().out) == VERSION[0] * 100 + VERSION[1] + more

"""gpudiff.model.regions: which associator has which part of the sky."""

import pytest

from gpudiff.model.config import Configuration, from_tables, override
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.regions import Region, Regions, parse, problem

QUARTERS = ("a ra 350 80", "b ra 80 200", "c ra 200 350 dec -90 -30", "d ra 200 350 dec -30 90")


@pytest.mark.parametrize(
    ("ra", "dec", "endpoint"),
    [
        (0, 0, "a"),
        (349.999, 0, "d"),
        (350, 0, "a"),
        (80, 0, "b"),
        (-10, 0, "a"),
        (360, 5, "a"),
        (-1e-17, 5, "a"),
        (560, -30.001, "c"),
        (300, -30, "d"),
        (300, 90, "d"),
        (300, -90, "c"),
        (float("nan"), 0, "a"),
        (300, float("nan"), "a"),
    ],
)
def test_a_place_has_one_associator_and_a_border_belongs_to_the_zone_that_begins_there(ra, dec, endpoint):
    assert Regions(tuple(map(parse, QUARTERS))).of(ra, dec) == endpoint


def test_an_associator_may_have_several_zones():
    regions = Regions((Region("a", dec=(-90, 0)), Region("b", (0, 10), (0, 90)), Region("a", (10, 0), (0, 90))))
    assert regions.endpoints == ("a", "b")


def test_each_associator_may_have_a_key_of_its_own():
    regions = Regions(tuple(map(parse, ("a ra 0 180 key one", "b ra 180 360"))))
    assert regions.keys == {"a": "one", "b": ""}
    assert parse("a key one") == Region("a", key="one")


def test_zones_that_fill_the_sky_once_are_accepted():
    assert problem(QUARTERS) == problem(["a"]) == problem([]) == ""
    made = override(Configuration(), "service", associators=list(QUARTERS))
    assert made.service.associators == QUARTERS


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        (["a ra 0 180"], "one associator for ra 180 360 dec -90 90, got none"),
        (["a ra 0 180", "b ra 170 360"], "one associator for ra 170 180 dec -90 90, got a and b"),
        (["a ra 300 100", "b ra 100 290"], "ra 290 300 dec -90 90, got none"),
        (["a dec -90 0", "b dec 0 89"], "ra 0 360 dec 89 90, got none"),
        (["a", "b"], "got a and b"),
        (["a ra 0 370", "b"], "ra FROM TO within 0 and 360"),
        (["a dec 10 -10"], "dec FROM TO within -90 and 90"),
        (["a ra 5 5"], "ra FROM TO"),
        (["a ra 0 nan"], "ra FROM TO"),
        (["a ra zero 180"], "two numbers after ra"),
        (["a ra 0 180 ra 180 360"], "each once"),
        (["a lon 0 180"], "expected ra or dec"),
        (["a ra 0"], "ENDPOINT ra FROM TO"),
        ([""], "ENDPOINT ra FROM TO"),
        (["a ra 0 180 key"], "key NAME"),
        (["a ra 0 180 key one", "a ra 180 360 key other"], "one key of a, got 'one' and 'other'"),
    ],
)
def test_a_gap_an_overlap_or_a_bad_word_is_refused_by_name(zones, expected):
    with pytest.raises(BadConfiguration, match=r"\[service\] associators: ") as refused:
        from_tables({"service": {"associators": zones}})
    assert expected in str(refused.value)

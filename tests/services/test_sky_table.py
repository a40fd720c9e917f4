"""gpudiff.services.sky_table: rows by id and by place."""

import numpy as np

from gpudiff.model.tables import LOOSE, Table
from gpudiff.services.sky_table import SkyTable


def rows(ids, ra, dec=0.0, tracklet: int = 0) -> Table:
    ids = np.asarray(ids)
    values = {c.name: np.zeros(len(ids), c.dtype) for c in LOOSE}
    places = {"ra": np.broadcast_to(ra, len(ids)), "dec": np.broadcast_to(dec, len(ids))}
    return Table(LOOSE, {**values, **places, "diaSourceId": ids, "trackletId": np.full(len(ids), tracklet)})


def found(table: SkyTable, ra: float, radius: float = 0.1) -> list[int]:
    return sorted(table.within(np.array([ra]), np.array([0.0]), radius)["diaSourceId"].tolist())


def test_those_within_the_radius_are_found_and_no_others():
    table = SkyTable(rows([1, 2, 3], [10.0, 10.05, 10.2]))
    assert found(table, 10.0) == [1, 2]


def test_near_are_those_within_the_radius_and_what_shares_their_cells():
    table = SkyTable(rows([1, 2, 3], [10.0, 10.2, 11.0]))
    near = table.near(np.array([10.01]), np.array([0.0]), 0.1)
    assert sorted(near["diaSourceId"].tolist()) == [1, 2]


def test_a_row_put_again_replaces_the_one_of_its_id():
    table = SkyTable(rows([1, 2], 10.0))
    table.put(rows([1], 20.0, tracklet=7))
    assert found(table, 10.0) == [2]
    assert table.within(np.array([20.0]), np.array([0.0]), 0.1)["trackletId"].tolist() == [7]
    assert len(table) == 2


def test_what_is_removed_is_gone_and_its_place_in_memory_is_used_again():
    table = SkyTable(rows(range(1000), 10.0))
    for first in range(0, 100_000, 1000):
        table.remove(range(first, first + 1000))
        table.put(rows(range(first + 1000, first + 2000), 10.0))
    assert len(table) == 1000
    assert len(table._columns["ra"]) == 1024
    assert found(table, 10.0) == list(range(100_000, 101_000))


def test_what_is_not_there_may_be_removed():
    table = SkyTable(rows([1], 10.0))
    table.remove([1, 1, 9])
    assert len(table) == len(table.everything()) == 0
    assert not table.has(np.array([1])).any()


def test_a_row_without_a_place_is_never_near_but_counts():
    table = SkyTable(rows([1], np.nan))
    assert found(table, 10.0, 90.0) == []
    assert table.everything()["diaSourceId"].tolist() == [1]


def test_what_is_undone_is_as_if_it_had_never_been():
    table = SkyTable(rows([1, 2, 3], [10.0, 10.05, np.nan], tracklet=5))
    table.begin()
    before = table.everything()
    table.put(rows([1, 4], 20.0, tracklet=7))
    table.remove([2, 2, 3, 4, 9])
    table.put(rows([2, 5], 10.0))
    table.undo()
    after = table.everything()
    for name, column in before.columns.items():
        rank, other = np.argsort(before["diaSourceId"]), np.argsort(after["diaSourceId"])
        np.testing.assert_array_equal(after[name][other], column[rank])
    assert (found(table, 10.0), found(table, 20.0)) == ([1, 2], [])


def test_what_was_there_when_it_began_is_not_undone():
    table = SkyTable(rows([1], 10.0))
    table.put(rows([2], 10.0))
    table.begin()
    table.remove([1])
    table.undo()
    table.undo()
    assert found(table, 10.0) == [1, 2]

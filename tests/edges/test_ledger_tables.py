"""gpudiff.edges.ledger_tables: tables as bytes, and those that earlier versions wrote."""

import numpy as np
from ledgers import a_commit

from gpudiff.edges.ledger_commit import outgoing
from gpudiff.edges.ledger_tables import DIA_SOURCE, LATER, pack, unpack
from gpudiff.model.tables import Table


def test_a_table_comes_back_as_it_was_packed():
    commit = a_commit(3, sky_trails=np.ones((2, 3), np.float32))
    table = outgoing([commit], commit.association)
    back = unpack(pack(table)[0], DIA_SOURCE)
    assert all((back[name] == table[name]).all() or np.isnan(table[name]).all() for name in table.columns)


def test_columns_that_an_earlier_version_did_not_store_are_nan():
    commit = a_commit(2)
    table = outgoing([commit], commit.association)
    kept = tuple(c for c in DIA_SOURCE if c.name not in LATER)
    before = Table(kept, {c.name: table[c.name] for c in kept})
    back = unpack(pack(before)[0], DIA_SOURCE)
    assert back["diaSourceId"].tolist() == table["diaSourceId"].tolist()
    assert all(np.isnan(back[name]).all() for name in LATER)

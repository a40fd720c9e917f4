"""gpudiff.edges.sources: one table, four formats, the same rows."""

import json

import numpy as np
import pytest

from gpudiff.edges.sources import read_columns, read_table, write_sources, write_table
from gpudiff.model.errors import BadConfiguration, StoreFailed, UnreadableFile
from gpudiff.model.tables import DIASOURCE, FLAGS, Column, Table

SUFFIXES = (".ecsv", ".fits", ".parquet", ".csv")


def assert_equal(back: Table, expected: Table) -> None:
    assert list(back.columns) == list(expected.columns)
    for name, column in expected.columns.items():
        assert back[name].dtype == column.dtype
        assert np.array_equal(back[name], column, equal_nan=column.dtype.kind == "f"), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sources_are_read_back_equal(tmp_path, made_sources, suffix):
    write_sources(tmp_path / f"s{suffix}", made_sources)
    assert_equal(read_table(tmp_path / f"s{suffix}", DIASOURCE), made_sources)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_sources_are_a_table_too(tmp_path, suffix):
    write_sources(tmp_path / f"s{suffix}", Table.empty(DIASOURCE))
    assert_equal(read_table(tmp_path / f"s{suffix}", DIASOURCE), Table.empty(DIASOURCE))


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".parquet"])
def test_metadata_name_the_flag_bits_and_the_rest(tmp_path, made_sources, suffix):
    write_sources(tmp_path / f"s{suffix}", made_sources, {"unit": "nJy", "visit": 7, "fingerprint": "0a" * 16})
    meta = metadata(tmp_path / f"s{suffix}")
    said = {"unit": "nJy", "visit": 7, "fingerprint": "0a" * 16}
    assert {key: meta[key] for key in said} == said
    assert (meta["FLAGS"] if "FLAGS" in meta else {name: meta[f"FLAG_{name}"] for name in FLAGS}) == FLAGS


def metadata(path):
    """As other readers see them: a FITS header's in capitals."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return json.loads(parquet.read_schema(path).metadata[b"gpudiff"])
    from astropy.table import Table as AstropyTable

    meta = dict(AstropyTable.read(path).meta)
    return meta | {key.lower(): value for key, value in meta.items()}


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".parquet"])
def test_other_readers_see_units(tmp_path, made_sources, suffix):
    from astropy.table import Table as AstropyTable

    write_sources(tmp_path / f"s{suffix}", made_sources, {"unit": "nJy"})
    if suffix == ".parquet":
        from pyarrow import parquet

        field = parquet.read_schema(tmp_path / f"s{suffix}").field
        assert (field("ra").metadata[b"unit"], field("psfFlux").metadata[b"unit"]) == (b"deg", b"nJy")
        return
    table = AstropyTable.read(tmp_path / f"s{suffix}")
    assert (str(table["ra"].unit), str(table["psfFlux"].unit), table["flags"].unit) == ("deg", "nJy", None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_of_any_schema_may_hold_words(tmp_path, suffix):
    schema = (Column("kind", "U10", "", "what it is"), Column("flux", "f8", "adu", "how bright"))
    table = Table(schema, {"kind": ["variable", ""], "flux": [1 / 3, -2.0]})
    write_table(tmp_path / f"t{suffix}", table)
    assert_equal(read_table(tmp_path / f"t{suffix}", schema), table)


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".csv"])
def test_text_may_be_empty_and_have_spaces_and_quotes(tmp_path, suffix):
    """Read by astropy, as users do."""
    schema = (Column("word", "U9", "", "with # and: 'marks'"), Column("n", "i4", "", ""))
    words = ["one", "a b", 'q"uo#te', "'", ""]
    write_table(tmp_path / f"t{suffix}", Table(schema, {"word": words, "n": range(5)}))
    assert read_table(tmp_path / f"t{suffix}", schema)["word"].tolist() == words


def test_an_unknown_suffix_is_refused_by_the_choices(tmp_path, made_sources):
    with pytest.raises(BadConfiguration, match=r"s\.txt: .*\.ecsv, \.fits, \.parquet, \.csv, got '\.txt'"):
        write_sources(tmp_path / "s.txt", made_sources)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_of_other_columns_is_refused(tmp_path, suffix):
    write_table(tmp_path / f"t{suffix}", Table((Column("a", "f8", "", ""),), {"a": [1.0]}))
    with pytest.raises(UnreadableFile, match="expected the columns of the schema, found no 'diaSourceId'"):
        read_table(tmp_path / f"t{suffix}", DIASOURCE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_table_is_refused_in_one_line(tmp_path, suffix):
    (tmp_path / f"s{suffix}").write_bytes(b"\x00\xff garbage\n" * 20)
    with pytest.raises(UnreadableFile) as caught:
        read_table(tmp_path / f"s{suffix}", DIASOURCE)
    assert "\n" not in str(caught.value)


def test_an_absent_table_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"s\.ecsv: expected a table, found no file"):
        read_table(tmp_path / "s.ecsv", DIASOURCE)


def test_a_folder_that_is_not_there_is_named(tmp_path, made_sources):
    with pytest.raises(StoreFailed, match=r"nowhere/s\.csv"):
        write_sources(tmp_path / "nowhere" / "s.csv", made_sources)


def test_words_of_a_fits_table_are_words(tmp_path):
    write_table(tmp_path / "t.fits", Table((Column("name", "U10", "", ""),), {"name": ["(1) Ceres"]}))
    assert read_columns(tmp_path / "t.fits")["name"].tolist() == ["(1) Ceres"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_may_have_any_letters(tmp_path, made_sources, suffix):
    write_sources(tmp_path / f"s{suffix}", made_sources, {"science": "Étoile.fits"})
    assert_equal(read_table(tmp_path / f"s{suffix}", DIASOURCE), made_sources)

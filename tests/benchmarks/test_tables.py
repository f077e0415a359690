"""Documents show what the results say."""

import pytest

from benchmarks import tables


def test_the_tables_of_the_document_are_those_of_the_results():
    text = tables.DOCUMENT.read_text()
    assert set(tables._PLACE.findall(text)), "there are tables"
    assert tables.with_tables(text) == text, "run python benchmarks/tables.py"


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_has_its_place_and_something_in_it(name):
    assert f"<!-- table {name} -->" in tables.DOCUMENT.read_text()
    head, *body = tables.TABLES[name]()
    assert body and all(len(row) == len(head) for row in body)


def test_later_runs_take_the_place_of_earlier_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    (tmp_path / "a.jsonl").write_text('{"case": "x/1", "n": 1}\n{"case": "y", "n": 2}\n{"case": "x/1", "n": 3}\n')
    assert [record["n"] for record in tables.records("a.jsonl", "x/")] == [3]

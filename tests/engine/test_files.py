"""Files of lines that are read again after a kill, and JSON files that others may have written."""

import pytest

from engine.files import SMALL_JSON, parse_json, read_json, read_lines


def test_lines_end_where_they_were_written_to_end_and_one_cut_short_is_passed_over(tmp_path):
    (tmp_path / "lines").write_text('{"name": "a\u2028b"}\n{"name": "c"}\n{"na', encoding="utf-8")
    assert list(read_lines(tmp_path / "lines")) == [{"name": "a\u2028b"}, {"name": "c"}]


def test_a_file_of_lines_that_is_not_there_has_none(tmp_path):
    assert list(read_lines(tmp_path / "lines")) == []


def test_brackets_without_an_end_are_no_json(tmp_path):
    (tmp_path / "deep").write_text("[" * 100_000)
    for read in (read_json, lambda path: parse_json(path.read_text())):
        with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
            read(tmp_path / "deep")
    (tmp_path / "lines").write_text("[" * 100_000 + '\n{"a": 1}\n')
    assert list(read_lines(tmp_path / "lines")) == [{"a": 1}]


def test_a_file_too_large_for_what_it_is_is_not_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # a hole
    with pytest.raises(ValueError, match=f"more than {SMALL_JSON} bytes"):
        read_json(tmp_path / "large")

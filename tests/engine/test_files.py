"""Files that are replaced whole, and lines that are read again after a kill."""

import pytest

from engine.files import read_lines, replace_file, replacing


def test_a_file_whose_writing_failed_is_the_old_one_and_nothing_else_is_left(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as file:
        file.write("new" + str(1 // 0))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_two_processes_that_replace_a_file_at_once_do_not_write_into_each_others(tmp_path):
    with replacing(tmp_path / "file") as mine:
        mine.write("mine")
        replace_file(tmp_path / "file", "theirs, and longer")
        assert (tmp_path / "file").read_text() == "theirs, and longer"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


def test_lines_end_where_they_were_written_to_end_and_one_cut_short_is_passed_over(tmp_path):
    (tmp_path / "lines").write_text('{"name": "a\u2028b"}\n{"name": "c"}\n{"na', encoding="utf-8")
    assert list(read_lines(tmp_path / "lines")) == [{"name": "a\u2028b"}, {"name": "c"}]


def test_a_file_of_lines_that_is_not_there_has_none(tmp_path):
    assert list(read_lines(tmp_path / "lines")) == []

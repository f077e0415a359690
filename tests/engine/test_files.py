"""Files of lines that are read again after a kill."""

from engine.files import read_lines


def test_lines_end_where_they_were_written_to_end_and_one_cut_short_is_passed_over(tmp_path):
    (tmp_path / "lines").write_text('{"name": "a\u2028b"}\n{"name": "c"}\n{"na', encoding="utf-8")
    assert list(read_lines(tmp_path / "lines")) == [{"name": "a\u2028b"}, {"name": "c"}]


def test_a_file_of_lines_that_is_not_there_has_none(tmp_path):
    assert list(read_lines(tmp_path / "lines")) == []

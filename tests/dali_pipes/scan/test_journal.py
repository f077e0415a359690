"""The journal of an unfinished scan: results are reused for the same file and check only."""

import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from unittest.mock import Mock

import numpy as np
import pytest

from dali_pipes.scan import journal as journal_module
from dali_pipes.scan.catalog import Entry
from dali_pipes.scan.journal import SECONDS_AT_RISK, Journal
from tests.support.files import scripted

VIDEO = replace(scripted.video("/a/é.mp4", 5, 100, 7), fps=29.97, description=b"\0stsd\xff")


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "journal.sqlite", "reader")) as journal:
        yield journal


def test_a_video_is_read_back_equal_also_after_a_restart(tmp_path):
    for kept in (False, True):
        with closing(Journal(tmp_path / "journal.sqlite", "reader")) as journal:
            if not kept:
                journal.add(VIDEO.path, Entry(100, 7, 1, VIDEO))
            size, mtime_ns, check, video = journal.find(VIDEO.path, 100, 7, 1)
            assert (size, mtime_ns, check) == (100, 7, 1)
            for field in fields(VIDEO):
                np.testing.assert_array_equal(getattr(video, field.name), getattr(VIDEO, field.name))


def test_a_reason_and_a_non_utf8_name_are_read_back_equal(journal):
    entry = Entry(3, -5, 0, "is damaged")
    journal.add("/a/\udcff.mp4", entry)
    assert journal.find("/a/\udcff.mp4", 3, -5, 0) == entry


@pytest.mark.parametrize("asked", [("/a/b.mp4", 100, 7, 1), (VIDEO.path, 99, 7, 1), (VIDEO.path, 100, 8, 1)])
def test_a_changed_file_size_or_time_is_not_found_in_the_journal(journal, asked):
    journal.add(VIDEO.path, Entry(100, 7, 1, VIDEO))
    assert journal.find(*asked) is None


@pytest.mark.parametrize(("check", "found"), [(0, True), (1, True), (2, False)])
def test_a_less_thorough_check_is_not_reused(journal, check, found):
    journal.add(VIDEO.path, Entry(100, 7, 1, VIDEO))
    assert (journal.find(VIDEO.path, 100, 7, check) is not None) == found


def test_results_of_another_reader_version_are_not_reused_and_can_be_replaced(tmp_path):
    for reader in ("an older one", "a newer one"):
        with closing(Journal(tmp_path / "journal.sqlite", reader)) as journal:
            assert journal.find("/a/b.mp4", 3, 5, 0) is None
            journal.add("/a/b.mp4", Entry(3, 5, 0, f"refused by {reader}"))
            assert journal.find("/a/b.mp4", 3, 5, 0).outcome == f"refused by {reader}"


def test_a_removed_journal_leaves_no_file(tmp_path):
    with closing(Journal(tmp_path / "journal.sqlite", "reader")) as journal:
        journal.add(VIDEO.path, Entry(100, 7, 1, VIDEO))
    journal.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "kept"), [(0.0, 0), (0.9 * SECONDS_AT_RISK, 0), (1.1 * SECONDS_AT_RISK, 2)])
def test_a_kill_loses_at_most_a_second_of_results(tmp_path, monkeypatch, seconds, kept):
    monkeypatch.setattr(journal_module, "time", clock := Mock(monotonic=Mock(return_value=100.0)))
    killed = Journal(tmp_path / "journal.sqlite", "reader")  # left open: what is not committed is lost
    killed.add("/a/1.mp4", Entry(3, 5, 0, "is damaged"))
    clock.monotonic.return_value += seconds
    killed.add("/a/2.mp4", Entry(3, 5, 0, "is damaged"))
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as seen:
        assert seen.execute(f"SELECT count(*) FROM {journal_module._TABLE}").fetchone() == (kept,)
    killed.remove()

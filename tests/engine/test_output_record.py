"""The record of results in a folder."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from configs import ConfigError
from engine import output_record
from engine.output_record import RECORD
from engine.outputs import Outputs


def test_a_foreign_record_is_not_changed(tmp_path):
    (tmp_path / RECORD).write_text("mine\n")
    for text in ("one", "one"):
        Outputs().write({tmp_path / "file": text})
    with pytest.raises(ConfigError, match="in the way"):
        Outputs().write({tmp_path / "file": "two"})
    assert (tmp_path / RECORD).read_text() == "mine\n"


def test_a_record_stays_short_and_knows_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(output_record, "MOST_ENTRIES", 10)
    Outputs().write({tmp_path / "once": "once"})
    for number in range(50):
        Outputs().write({tmp_path / "often": str(number)})
        Outputs().append_line(tmp_path / "lines", str(number))
    assert len((tmp_path / RECORD).read_text().splitlines()) <= 12
    Outputs().write({tmp_path / "once": "twice"})
    Outputs().append_line(tmp_path / "lines", "51")


def test_threads_that_write_at_once_lose_no_entry_of_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(output_record, "MOST_ENTRIES", 10)  # the record is written anew again and again
    monkeypatch.setattr(
        output_record, "_newest", lambda entries, newest=output_record._newest: time.sleep(0.001) or newest(entries)
    )
    files = [tmp_path / f"{number}.json" for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda file: Outputs().write({file: "{}"}), files))
    assert all(map(output_record.is_result, files))
